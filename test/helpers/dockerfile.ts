import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);

/** One instruction of a Dockerfile. */
export interface Instruction {
  readonly word: string;
  readonly text: string;
}

/** The instructions, with lines that go on put together, without comments. */
export function readDockerfile(text: string): Instruction[] {
  return text
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const [, word = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
      if (word === '') throw new Error(`no instruction: ${line}`);
      return { word, text: rest };
    });
}

/** What became of a stage: a folder that stands for the root of the image, and what containers start with. */
export interface Stage {
  readonly name: string;
  readonly base: string;
  readonly root: string;
  readonly env: Record<string, string>;
  workdir: string;
  uid: number | null;
  gid: number | null;
  entrypoint: string[];
  cmd: string[];
  healthcheck: string[];
  readonly volumes: string[];
}

/** Folders of images that are made here; the rest of their roots is this machine's. */
const OWN = /(^|[\s="'])(\/(?:app|build|data)\b)/g;

/** A text of the image, with the image's own paths where they are on this machine. */
export function onThisMachine(stage: Stage, text: string): string {
  return text.replace(OWN, (_all, before: string, path: string) => `${before}${stage.root}${path}`);
}

/**
 * Does what a Dockerfile says, one instruction after the other, into folders instead of layers: no engine is needed, and
 * what is not copied, built or allowed is missing as it would be in the image. `instead` may do a RUN itself by returning
 * true. Must run as root: files get the owners they are to have. Resolves to the last stage.
 */
export async function buildImage(
  t: Test,
  instructions: readonly Instruction[],
  context: string,
  instead: (stage: Stage, command: string) => Promise<boolean>,
): Promise<Stage> {
  const top = mkdtempSync(join(tmpdir(), 'ts-image-'));
  chmodSync(top, 0o755);
  t.teardown(() => rmSync(top, { recursive: true, force: true }));
  const stages: Stage[] = [];
  for (const { word, text } of instructions) {
    const stage = stages.at(-1);
    if (word === 'FROM') {
      const [, base = '', name = String(stages.length)] = /^(\S+)(?:\s+AS\s+(\S+))?$/.exec(text) ?? [];
      const root = join(top, name);
      mkdirSync(root);
      stages.push({
        name,
        base,
        root,
        env: {},
        workdir: '/',
        uid: null,
        gid: null,
        entrypoint: [],
        cmd: [],
        healthcheck: [],
        volumes: [],
      });
      continue;
    }
    if (stage === undefined) throw new Error(`${word} before FROM`);
    const json = () => JSON.parse(text.slice(text.indexOf('['))) as string[];
    switch (word) {
      case 'WORKDIR':
        stage.workdir = text;
        mkdirSync(join(stage.root, text), { recursive: true });
        break;
      case 'ENV':
        for (const [, name = '', value = ''] of text.matchAll(/(\w+)=(\S+)/g))
          stage.env[name] = onThisMachine(stage, value);
        break;
      case 'COPY':
        await copy(stage, text, (name) =>
          name === null ? context : stages.find((other) => other.name === name)?.root,
        );
        break;
      case 'RUN':
        if (await instead(stage, text)) break;
        await run('sh', ['-ec', onThisMachine(stage, text)], {
          cwd: join(stage.root, stage.workdir),
          env: {
            PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
            HOME: top,
            // What is here must do: the registry is for npm ci
            npm_config_offline: 'true',
            npm_config_update_notifier: 'false',
            ...stage.env,
          },
        });
        break;
      case 'USER':
        [stage.uid = null, stage.gid = null] = text.split(':').map(Number);
        break;
      case 'ENTRYPOINT':
        stage.entrypoint = json();
        break;
      case 'CMD':
        stage.cmd = json();
        break;
      case 'HEALTHCHECK':
        stage.healthcheck = json();
        break;
      case 'VOLUME':
        stage.volumes.push(text);
        break;
      case 'STOPSIGNAL':
      case 'EXPOSE':
        break;
      default:
        throw new Error(`${word} is not known here`);
    }
  }
  const last = stages.at(-1);
  if (last === undefined) throw new Error('no stage');
  return last;
}

async function copy(
  stage: Stage,
  text: string,
  rootOf: (name: string | null) => string | undefined,
): Promise<void> {
  const words = text.split(/\s+/);
  const option = words[0]?.startsWith('--from=') ? (words.shift() as string).slice('--from='.length) : null;
  const from = rootOf(option);
  if (from === undefined) throw new Error(`no stage ${option}`);
  const to = words.pop() ?? '';
  const target = join(stage.root, to.startsWith('/') ? '' : stage.workdir, to);
  const intoFolder = to.endsWith('/') || words.length > 1;
  for (const word of words) {
    const path = join(from, word);
    const isFolder = statSync(path).isDirectory();
    // A folder is copied as what is in it
    if (isFolder && !intoFolder) {
      mkdirSync(dirname(target), { recursive: true });
      await run('cp', ['-a', ...(option === null ? [] : ['-l']), path, target]);
    } else {
      const folder = intoFolder ? target : dirname(target);
      mkdirSync(folder, { recursive: true });
      await run('cp', ['-a', path, join(folder, intoFolder ? basename(word) : basename(target))]);
    }
  }
}

/** Puts this machine's installed packages where `npm ci` would: linked where that can be, as nothing writes into them. */
export async function packagesOf(context: string, folder: string): Promise<void> {
  const from = join(context, 'node_modules');
  const to = join(folder, 'node_modules');
  mkdirSync(to);
  const names = readdirSync(from).filter((name) => !name.startsWith('.') || name === '.bin');
  const paths = names.map((name) => join(from, name));
  await run('cp', ['-al', ...paths, to]).catch(async () => {
    rmSync(to, { recursive: true }); // another file system
    mkdirSync(to);
    await run('cp', ['-a', ...paths, to]);
  });
  const lock = join(from, '.package-lock.json'); // npm writes into this one
  if (existsSync(lock)) await run('cp', [lock, to]);
}
