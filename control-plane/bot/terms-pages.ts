import { createHash } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import type { Keyboard } from '../telegram/telegram-queue.js';
import { readTerms, type TermsText } from '../terms/terms.js';
import { type Say, textIn } from '../texts/fluent.js';
import type { Language } from '../users/users.js';

/** Longest page; with a greeting, a title and the question it stays under Telegram's 4096. */
const PAGE_CHARS_MAX = 3_300;
/** What of a button's 64 bytes a version may take. */
const VERSION_BYTES_MAX = 40;

/** The terms in pages, cut between paragraphs where that is possible, else between words. */
export function termsPages({ body }: Pick<TermsText, 'body'>): string[] {
  const pages: string[] = [];
  let page = '';
  for (const paragraph of body.split(/\n\s*\n/).flatMap(pieces)) {
    const longer = page === '' ? paragraph : `${page}\n\n${paragraph}`;
    if (longer.length <= PAGE_CHARS_MAX) page = longer;
    else {
      pages.push(page);
      page = paragraph;
    }
  }
  return [...pages, page];
}

/** A paragraph in parts that fit on a page. */
function pieces(paragraph: string): string[] {
  const parts: string[] = [];
  let rest = paragraph;
  while (rest.length > PAGE_CHARS_MAX) {
    const space = rest.lastIndexOf(' ', PAGE_CHARS_MAX);
    const end = space > 0 ? space : PAGE_CHARS_MAX;
    parts.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  return [...parts, rest];
}

/** A version as buttons carry it: itself, or when that is too long for a button its hash. */
export function versionMark(version: string): string {
  if (/^[\w.-]+$/.test(version) && version.length <= VERSION_BYTES_MAX) return version;
  return createHash('sha256').update(version).digest('hex').slice(0, VERSION_BYTES_MAX);
}

export interface TermsPage {
  text: string;
  keyboard: Keyboard;
}

/**
 * A page of the terms in force, in the language: who has read the last one may accept. Pages count from 1; one that there
 * is not is the last. `appUrl` opens the Mini App, where long terms read better.
 */
export async function termsPage(
  db: Queryable,
  { version, language, page: wanted }: { version: string; language: Language; page: number },
  appUrl: string | null,
): Promise<TermsPage> {
  const terms = await readTerms(db, { version, language, inForce: version });
  if (terms === null) throw new Error(`the terms in force have no text: ${version}`);
  const t: Say = (id, args) => textIn(language, id, args);
  const pages = termsPages(terms);
  const page = Math.min(Math.max(1, wanted), pages.length);
  const mark = versionMark(version);
  const turn = (to: number, text: string) => ({ text, callback_data: `consent:page:${mark}:${to}` });
  const turns = [
    ...(page > 1 ? [turn(page - 1, t('consent-back'))] : []),
    ...(page < pages.length ? [turn(page + 1, t('consent-next'))] : []),
  ];
  const isLast = page === pages.length;
  return {
    text: [
      terms.title,
      pages[page - 1],
      ...(pages.length > 1 ? [t('consent-page', { page, pages: pages.length, version })] : []),
      ...(isLast ? [t('consent-ask', { version })] : []),
    ].join('\n\n'),
    keyboard: [
      ...(isLast ? [[{ text: t('consent-accept'), callback_data: `consent:yes:${mark}` }]] : []),
      ...(turns.length > 0 ? [turns] : []),
      ...(pages.length > 1 && appUrl?.startsWith('https://')
        ? [[{ text: t('consent-app'), web_app: { url: appUrl } }]]
        : []),
    ],
  };
}
