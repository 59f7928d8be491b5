import { readFileSync } from 'node:fs';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { type ProgramResult, runProgram } from './programs.js';

/** The rule files beside prometheus.yml, each with its tests. */
export const RULES_FOLDER = projectPath('deploy/prometheus/rules');
export const RULE_FILES = ['recording', 'money', 'data-path', 'control-plane', 'abuse'] as const;

export const ruleText = (file: string) => readFileSync(`${RULES_FOLDER}/${file}.yml`, 'utf8');

/** Names of recording rules in the text. */
export const recordedIn = (text: string) =>
  new Set([...text.matchAll(/^ +- record: (\S+)$/gm)].map(([, name]) => name as string));

/** Every name of a series of ours in the text, recorded ones too; `ts_bytes_*_total` in prose is none. */
export const seriesIn = (text: string) =>
  new Set(
    [...text.matchAll(/(?<![\w:])(?:[a-z]+:)?ts_[a-z0-9_:]+(?!\*)\b/g)]
      .map(([name]) => name)
      .filter((name) => !name.endsWith('_')),
  );

export const promtool = (...args: string[]): Promise<ProgramResult> =>
  runProgram('promtool', args, { cwd: RULES_FOLDER });
