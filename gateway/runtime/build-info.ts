import { Gauge, type Registry } from 'prom-client';
import { packageVersion } from './package-version.js';

/** Shows which version of the program runs, and on which Node: a gauge that is 1, to be joined with others. */
export function exposeBuild(registry: Registry): void {
  new Gauge({
    name: 'ts_build_info',
    help: 'Always 1: the version of the program and of Node as labels',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version: packageVersion(), node: process.versions.node }, 1);
}
