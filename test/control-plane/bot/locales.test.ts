import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FluentResource } from '@fluent/bundle';
import t from 'tap';
import ts from 'typescript';
import { ADMIN_COMMANDS, COMMANDS } from '../../../control-plane/bot/commands.js';
import { localePath, textIn } from '../../../control-plane/texts/fluent.js';
import { LANGUAGES, type Language } from '../../../control-plane/users/users.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';

type Pattern = NonNullable<FluentResource['body'][number]['value']>;

/** Variables of a message, and for each that chooses a plural the forms there are. */
interface Shape {
  variables: string[];
  choices: Map<string, string[]>;
}

function shapeOf(pattern: Pattern): Shape {
  const variables = new Set<string>();
  const choices = new Map<string, string[]>();
  const walk = (part: unknown): void => {
    if (Array.isArray(part)) for (const one of part) walk(one);
    if (typeof part !== 'object' || part === null) return;
    const node = part as { type?: string; name?: string; selector?: { name: string }; variants?: unknown[] };
    if (node.type === 'var' && node.name !== undefined) variables.add(node.name);
    if (node.type !== 'select' || node.selector === undefined) return;
    variables.add(node.selector.name);
    const variants = node.variants as { key: { value: string | number }; value: unknown }[];
    choices.set(
      node.selector.name,
      variants.map((variant) => String(variant.key.value)),
    );
    for (const variant of variants) walk(variant.value);
  };
  walk(pattern);
  return { variables: [...variables].sort(), choices };
}

function read(language: Language): Map<string, Shape> {
  const source = readFileSync(localePath(language), 'utf8');
  const { body } = new FluentResource(source);
  const messages = new Map<string, Shape>();
  for (const { id, value } of body) {
    if (value == null) throw new Error(`${language}: ${id} has no text`);
    if (messages.has(id)) throw new Error(`${language}: ${id} twice`);
    messages.set(id, shapeOf(value));
  }
  // What the parser does not understand it passes over in silence.
  const written = source.match(/^[a-z][a-z0-9-]* =/gm) ?? [];
  if (written.length !== messages.size) throw new Error(`${language}: not every message is understood`);
  return messages;
}

const messages = new Map(LANGUAGES.map((language) => [language, read(language)] as const));
const english = messages.get('en') as Map<string, Shape>;

t.test('each language has the same messages with the same variables', async (t) => {
  for (const [language, others] of messages) {
    t.same([...others.keys()].sort(), [...english.keys()].sort(), `messages of ${language}`);
    for (const [id, { variables }] of others)
      t.same(variables, english.get(id)?.variables, `variables of ${id} in ${language}`);
  }
});

t.test('plurals have the forms their language has', async (t) => {
  for (const [language, all] of messages) {
    const forms = new Intl.PluralRules(language).resolvedOptions().pluralCategories;
    for (const [id, { choices }] of all)
      for (const [variable, given] of choices) {
        const named = given.filter((form) => !/^\d+$/.test(form)).sort();
        // `other` of Russian is for fractions, and what is counted here is whole.
        const needed = forms.filter((form) => language !== 'ru' || form !== 'other').sort();
        t.ok(
          named.join() === needed.join() || (named.length === 1 && given.length > 1),
          `${id} of ${language} by ${variable}: ${given}`,
        );
      }
  }
  t.match(
    textIn('ru', 'stats-caption', { period: '', gigabytes: '', earned: '', sessions: 21 }),
    /21 сессия\./,
  );
  t.match(
    textIn('ru', 'stats-caption', { period: '', gigabytes: '', earned: '', sessions: 3 }),
    /3 сессии\./,
  );
  t.match(
    textIn('ru', 'stats-caption', { period: '', gigabytes: '', earned: '', sessions: 12 }),
    /12 сессий\./,
  );
  t.match(textIn('en', 'consent-withdrawn', { sessions: 0 }), /Nothing was being shared/);
});

/** Every source of the control plane. */
function sources(): { path: string; file: ts.SourceFile }[] {
  const root = projectPath('control-plane');
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
    .map((path) => ({
      path,
      file: ts.createSourceFile(path, readFileSync(join(root, path), 'utf8'), ts.ScriptTarget.Latest, true),
    }));
}

t.test('the code says messages that there are, with their variables, and all of them', async (t) => {
  const used = new Set<string>([...COMMANDS, ...ADMIN_COMMANDS].map((command) => `cmd-${command}`));
  let checked = 0;
  for (const { path, file } of sources()) {
    const visit = (node: ts.Node): void => {
      if (ts.isStringLiteral(node) && english.has(node.text)) used.add(node.text);
      if (ts.isCallExpression(node)) {
        const name = node.expression.getText(file);
        const [id, args] = /(^|\.)t$/.test(name)
          ? node.arguments
          : name === 'textIn'
            ? node.arguments.slice(1)
            : [];
        if (id !== undefined && ts.isStringLiteral(id)) {
          checked++;
          t.ok(english.has(id.text), `${path}: ${id.text}`);
          // What is spread or handed over whole is not looked into.
          const whole = args === undefined || ts.isObjectLiteralExpression(args);
          const given = args !== undefined && ts.isObjectLiteralExpression(args) ? args.properties : [];
          if (whole && !given.some(ts.isSpreadAssignment))
            t.same(
              given.map((property) => property.name?.getText(file)).sort(),
              english.get(id.text)?.variables,
              `${path}: variables of ${id.text}`,
            );
        }
      }
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
  t.ok(checked > 80, `${checked} calls`);
  t.same(
    [...english.keys()].filter((id) => !used.has(id)),
    [],
    'messages that nobody says',
  );
});
