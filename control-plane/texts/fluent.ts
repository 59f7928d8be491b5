import { readFileSync } from 'node:fs';
import { FluentBundle, FluentResource } from '@fluent/bundle';
import { projectPath } from '../../gateway/runtime/project-path.js';
import type { Language } from '../users/users.js';

/** What goes into a message: texts as they are; numbers choose the plural and are written as the language does. */
export type TextArgs = Readonly<Record<string, string | number>>;

/** Says a message of the language. */
export type Say = (id: string, args?: TextArgs) => string;

const bundles = new Map<Language, FluentBundle>();

/** Where a language's messages are. */
export const localePath = (language: Language) => projectPath(`control-plane/bot/locales/${language}.ftl`);

function bundleOf(language: Language): FluentBundle {
  const known = bundles.get(language);
  if (known !== undefined) return known;
  // Isolation marks would be copied along with codes and addresses.
  const bundle = new FluentBundle(language, { useIsolating: false });
  const errors = bundle.addResource(new FluentResource(readFileSync(localePath(language), 'utf8')));
  if (errors.length > 0) throw new Error(`${language}.ftl: ${errors.map(String).join(', ')}`);
  bundles.set(language, bundle);
  return bundle;
}

/**
 * The message of this id in the language (`locales/<language>.ftl`). Throws when there is none: a test holds code and
 * files together. A variable that is not given shows as `{$name}`.
 */
export function textIn(language: Language, id: string, args: TextArgs = {}): string {
  const bundle = bundleOf(language);
  const pattern = bundle.getMessage(id)?.value;
  if (pattern == null) throw new Error(`no message ${id} in ${language}`);
  const errors: Error[] = [];
  return bundle.formatPattern(pattern, args, errors);
}
