import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dashboardJson } from '../observe/dashboard.js';
import { dashboards } from '../observe/dashboards/all.js';
import { metricTable } from '../observe/metric-table.js';

/** `traffic-share metrics`: the table of all metrics, as Markdown, to stdout. */
export function runMetrics(): void {
  process.stdout.write(metricTable());
}

/** The dashboards' files: name and content. */
export function dashboardFiles(): [name: string, text: string][] {
  return Object.entries(dashboards).map(([name, dashboard]) => [
    `${name}.json`,
    `${JSON.stringify(dashboardJson(dashboard), null, 2)}\n`,
  ]);
}

/** `traffic-share dashboards <folder>`: writes Grafana's dashboards there, one file each; makes the folder. */
export function runDashboards(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of dashboardFiles()) {
    writeFileSync(join(folder, name), text);
    process.stdout.write(`${join(folder, name)}\n`);
  }
}
