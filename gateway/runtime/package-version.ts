import { readFileSync } from 'node:fs';
import { projectPath } from './project-path.js';

/** The version this program is, x.y.z, as package.json has it. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as { version: string }).version;
}
