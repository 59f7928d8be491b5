/**
 * Programs that a test can not let do what documents ask of them: others of the same name go first on PATH and only write
 * down how they were called, which is judged afterwards.
 */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { type Manifest, problemsOfManifest } from '../helpers/kubernetes.js';
import { runProgram } from '../helpers/programs.js';

/** A call that was written down. */
export interface Call {
  program: string;
  args: string[];
}

interface StandIn {
  /** Why it does not run. */
  why: string;
  /** Calls of it that do run, as patterns of a shell's `case` over all arguments, and by what. */
  real?: Readonly<Record<string, string>>;
  /** What is wrong with a call; empty: nothing. `place` is where it was made. */
  judge: (args: readonly string[], place: string) => Promise<string[]> | string[];
}

const { scripts } = JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

/** Everything that is only judged, and why. */
export const STAND_INS: Readonly<Record<string, StandIn>> = {
  npm: {
    why: 'ci, test, prune and the programs for measuring take minutes, or change the checkout that is being tested',
    real: { start: '"$NPM" start' },
    judge: judgeNpm,
  },
  npx: {
    why: 'it takes a second each time; the program that it finds is run without it',
    real: { 'traffic-share --help': '"$NPX" "$@"', 'traffic-share*': 'shift; exec traffic-share "$@"' },
    judge: (args) => [`npx ${args[0]}: unknown`],
  },
  node: {
    why: 'tests do not run all tests',
    real: { 'test/run.mjs*': '', '*': '"$NODE" "$@"' },
    judge: judgeTestRun,
  },
  'deploy/install.sh': {
    why: 'it makes users and writes to /opt and /etc; test/deploy/install.test.ts runs it elsewhere',
    judge: (args) => optionsMissingIn(readFileSync(projectPath('deploy/install.sh'), 'utf8'), args),
  },
  docker: { why: 'there is no engine', judge: judgeDocker },
  kubectl: { why: 'there is no cluster', judge: judgeKubectl },
  systemctl: { why: 'there is no systemd', judge: judgeSystemctl },
  journalctl: { why: 'there is no systemd', judge: judgeJournalctl },
};

/** Puts the stand-ins into `folder`, for PATH; those of a path into `place`, the checkout. They write to `record`. */
export async function writeStandIns(folder: string, place: string, record: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const found = await runProgram('sh', ['-c', 'command -v npm; command -v npx']);
  const [npm = 'npm', npx = 'npx'] = found.out.trim().split('\n');
  for (const [program, { real = {} }] of Object.entries(STAND_INS)) {
    const cases = Object.entries(real).map(([pattern, command]) =>
      command === ''
        ? `  ${pattern.replaceAll(' ', '\\ ')}) ;;`
        : `  ${pattern.replaceAll(' ', '\\ ')}) ${command.startsWith('shift') ? command : `exec ${command}`} ;;`,
    );
    const lines = [
      '#!/bin/sh',
      `NODE='${process.execPath}' NPM='${npm}' NPX='${npx}'`,
      ...(cases.length > 0 ? ['case "$*" in', ...cases, 'esac'] : []),
      `{ printf %s '${program}'; for word; do printf '\\t%s' "$word"; done; echo; } >>'${record}'`,
    ];
    const path = program.includes('/') ? join(place, program) : join(folder, program);
    await writeFile(path, `${lines.join('\n')}\n`);
    await chmod(path, 0o755);
  }
  await writeFile(record, '');
}

/** The calls since the last time. */
export async function takeCalls(record: string): Promise<Call[]> {
  const text = await readFile(record, 'utf8');
  await writeFile(record, '');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [program = '', ...args] = line.split('\t');
      return { program, args };
    });
}

/** What is wrong with a call that was written down. */
export async function problemsOfCall({ program, args }: Call, place: string): Promise<string[]> {
  const standIn = STAND_INS[program];
  if (standIn === undefined) return [`${program}: no stand-in`];
  return standIn.judge(args, place);
}

/** Options that a program's text or help does not name. */
function optionsMissingIn(text: string, args: readonly string[]): string[] {
  const known = new Set(text.match(/(?<![\w-])--?[a-zA-Z][\w-]*/g));
  return args
    .filter((word) => word.startsWith('-') && word !== '--')
    .map((word) => word.split('=')[0] as string)
    .filter((option) => !known.has(option))
    .map((option) => `no option ${option}`);
}

async function judgeNpm([command = '', ...args]: readonly string[]): Promise<string[]> {
  if (command === 'ci') return existsSync(projectPath('package-lock.json')) ? [] : ['no package-lock.json'];
  if (command === 'prune') return args.join(' ') === '--omit=dev' ? [] : [`npm prune ${args.join(' ')}`];
  if (command === 'test' || command === 'start') return [];
  if (command !== 'run') return [`npm ${command}: unknown`];
  const [name = '', dashes, ...words] = args.filter((word) => word !== '-s');
  const script = scripts[name];
  if (script === undefined) return [`no script ${name}`];
  if (dashes !== undefined && dashes !== '--') return [`npm run ${name}: options come after --`];
  const program = /node (dist-programs\/\S+\.js)$/.exec(script)?.[1];
  if (program === undefined) return words.length === 0 ? [] : [`npm run ${name} takes no words`];
  // With --help a program reads its options and does nothing
  const ran = await runProgram(process.execPath, [projectPath(program), ...words, '--help']);
  return ran.code === 0 ? [] : [`npm run ${name} -- ${words.join(' ')}: ${ran.err}`];
}

function judgeTestRun([program, ...args]: readonly string[]): string[] {
  if (program !== 'test/run.mjs') return [`node ${program}: unknown`];
  return args.flatMap((path) => {
    if (/^--timeout=\d+$/.test(path)) return [];
    const full = projectPath(path);
    if (!existsSync(full)) return [`no ${path}`];
    const files = statSync(full).isDirectory()
      ? (readdirSync(full, { recursive: true }) as string[])
      : [path];
    return files.some((file) => file.endsWith('.test.ts')) ? [] : [`no tests in ${path}`];
  });
}

async function judgeDocker(args: readonly string[], place: string): Promise<string[]> {
  const [compose, dashF, file = '', verb = '', ...words] = args;
  if (compose !== 'compose' || dashF !== '-f') return [`docker ${args.join(' ')}: unknown`];
  const path = join(place, file);
  if (!existsSync(path)) return [`no ${file}`];
  const composer = await runProgram('docker-compose', ['version']).catch(() => null);
  if (composer === null) return []; // test/deploy/compose.test.ts insists on it where it was promised
  const config = await runProgram('docker-compose', ['-f', path, 'config', '--no-interpolate', '--services']);
  if (config.code !== 0) return [config.err];
  const services = config.out.trim().split('\n');
  const help = await runProgram('docker-compose', [verb, '--help']);
  if (help.code !== 0) return [`docker compose ${verb}: unknown`];
  const named = words.filter((word) => !word.startsWith('-'));
  return [
    ...optionsMissingIn(help.out + help.err, words),
    ...(verb === 'exec' || verb === 'run' ? named.slice(0, 1) : named)
      .filter((service) => !services.includes(service) && !/^\d+[smh]?$/.test(service))
      .map((service) => `no service ${service}`),
  ];
}

async function judgeKubectl(args: readonly string[]): Promise<string[]> {
  const folder = 'deploy/kubernetes';
  const { resources, namespace } = parse(
    readFileSync(projectPath(`${folder}/kustomization.yaml`), 'utf8'),
  ) as {
    resources: string[];
    namespace: string;
  };
  const manifests = resources.flatMap((name) =>
    parseAllDocuments(readFileSync(projectPath(`${folder}/${name}`), 'utf8')).map(
      (document) => document.toJS() as Manifest & { metadata: { name: string } },
    ),
  );
  if (args.join(' ') === `apply -k ${folder}`)
    return (await Promise.all(manifests.map(problemsOfManifest))).flat();
  const [dashN, space, ...words] = args;
  if (dashN === '-n' && space === namespace && words.slice(0, 3).join(' ') === 'create secret generic') {
    const [name = '', ...files] = words.slice(3);
    return [
      ...(JSON.stringify(manifests).includes(`"secretName":"${name}"`)
        ? []
        : [`no manifest takes the secret ${name}`]),
      ...files
        .filter((file) => !/^--from-file=[\w.]+(=[\w.]+)?$/.test(file))
        .map((file) => `${file}: unknown`),
    ];
  }
  const known = new Set(manifests.map(({ kind, metadata }) => `${kind}/${metadata.name}`.toLowerCase()));
  const [verb = '', ...rest] = words[0] === 'rollout' ? words.slice(1) : words;
  if (dashN !== '-n' || space !== namespace || !['restart', 'status', 'logs'].includes(verb))
    return [`kubectl ${args.join(' ')}: unknown`];
  return rest
    .filter((word) => !word.startsWith('-') && !known.has(word))
    .map((word) => `no ${word} in ${folder}`);
}

function judgeSystemctl([verb = '', ...args]: readonly string[]): string[] {
  if (verb === 'daemon-reload') return [];
  if (!['restart', 'start', 'stop', 'status', 'enable'].includes(verb)) return [`systemctl ${verb}: unknown`];
  const units = args.filter((word) => word !== '--now');
  return units.length === 0 ? [`systemctl ${verb} of nothing`] : units.flatMap(unitMissing);
}

function judgeJournalctl(args: readonly string[]): string[] {
  const unit = args.indexOf('-u');
  const others = args.filter((_, index) => index !== unit && index !== unit + 1);
  const unknown = others.filter((word) => !/^(-n|\d+|--no-pager|--since=.+)$/.test(word));
  return [...unitMissing(args[unit + 1] ?? ''), ...unknown.map((word) => `journalctl ${word}: unknown`)];
}

function unitMissing(unit: string): string[] {
  const file = `${unit.replace(/@\d+$/, '@')}.service`;
  return existsSync(projectPath(`deploy/systemd/${file}`)) ? [] : [`no unit ${file} in deploy/systemd`];
}
