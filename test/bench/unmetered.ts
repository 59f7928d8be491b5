/**
 * Loaded in front of the built programs (`node --import`) by the bench phase `metering` alone: SIGUSR2 makes the gateway
 * relay without metering and journal, the next one with them again, while its streams go on. No build contains this
 * file, and no setting of the product leads to it.
 */
import { pathToFileURL } from 'node:url';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterBinding } from '../../gateway/metering/meter.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

const meter = (await import(pathToFileURL(projectPath('dist/gateway/metering/meter.js')).href)) as {
  MeterBinding: { prototype: MeterBinding };
};
const { prototype } = meter.MeterBinding;
const { countUp, countDown } = prototype;
const pass = () => Verdict.GO;
let metered = true;
process.on('SIGUSR2', () => {
  metered = !metered;
  prototype.countUp = metered ? countUp : pass;
  prototype.countDown = metered ? countDown : pass;
});
