import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { projectPath } from '../../gateway/runtime/project-path.js';

const run = promisify(execFile);

/** A fenced block of a document. */
export interface Block {
  document: string;
  /** Of the opening fence, from 1. */
  line: number;
  /** What stands behind the fence: the language, and perhaps a name. */
  info: string;
  text: string;
}

/** A command of a fenced block, as it stands there: a line, or several that belong together. */
export interface ShellCommand {
  document: string;
  /** In the document, from 1. */
  line: number;
  text: string;
}

/** Every document that says how something is done, in the order a newcomer reads them; what programs print is left out. */
export const DOCUMENTS: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  'ARCHITECTURE.md',
  ...markdownBelow('agent-protocol'),
  ...markdownBelow('deploy').filter((path) => !/\/(SETTINGS|METRICS)\.md$/.test(path)),
  'test/README.md',
];

function markdownBelow(folder: string): string[] {
  return (readdirSync(projectPath(folder), { recursive: true }) as string[])
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`)
    .sort();
}

/** The text of a document. */
export function readDocument(document: string): string {
  return readFileSync(projectPath(document), 'utf8');
}

/** The fenced blocks of a document. Throws when one is not closed. */
export function blocksOf(document: string, content = readDocument(document)): Block[] {
  const blocks: Block[] = [];
  let open: { block: Block; indent: string; lines: string[] } | null = null;
  for (const [index, line] of content.split('\n').entries()) {
    const [, indent = '', info = ''] = /^( *)```(.*)$/.exec(line) ?? [];
    const isFence = line.trimStart().startsWith('```');
    if (open === null && isFence)
      open = { block: { document, line: index + 1, info: info.trim(), text: '' }, indent, lines: [] };
    else if (open !== null && isFence) {
      blocks.push({ ...open.block, text: open.lines.join('\n') });
      open = null;
    } else open?.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line);
  }
  if (open !== null) throw new Error(`${document}:${open.block.line}: a block that does not end`);
  return blocks;
}

/** Whether it is for a shell. */
export function isShell({ info }: Block): boolean {
  return /^(sh|bash|console)\b/.test(info);
}

/** The commands of a shell block: lines are put together until bash takes them as whole. Rejects when it never does. */
export async function commandsOf({ document, line, text }: Block): Promise<ShellCommand[]> {
  const commands: ShellCommand[] = [];
  let begun: string[] = [];
  const lines = text.split('\n');
  for (const [index, next] of lines.entries()) {
    if (begun.length === 0 && /^\s*(#|$)/.test(next)) continue;
    begun.push(next);
    const command = begun.join('\n');
    if (next.endsWith('\\') || !(await isWhole(command))) continue;
    commands.push({ document, line: line + 2 + index - begun.length, text: command });
    begun = [];
  }
  if (begun.length > 0) throw new Error(`${document}:${line}: no whole command: ${begun.join('\n')}`);
  return commands;
}

async function isWhole(command: string): Promise<boolean> {
  const parsed = run('bash', ['-n', '-c', command]);
  return parsed.then(
    ({ stderr }) => stderr === '', // of a here-document without its end it only warns
    () => false,
  );
}

/** Code within the text of a document, blocks left out; line breaks in it are spaces. */
export function inlineCodeOf(document: string, content = readDocument(document)): string[] {
  const text = content.replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code.replaceAll(/\s*\n\s*/g, ' '));
}
