import type { Queryable } from '../db/pool.js';
import { LANGUAGES, type Language } from '../users/users.js';
import { SHIPPED_TERMS } from './shipped-terms.js';

/** What somebody is asked to accept, in one language. */
export interface TermsText {
  title: string;
  /** Plain text; paragraphs with an empty line between. */
  body: string;
}

/** The terms as a person reads them. */
export interface Terms extends TermsText {
  version: string;
  language: Language;
}

/**
 * The terms of a version in a language; null: there is no such version. The one in force always has a text: its own,
 * else the one that the program brings along.
 */
export async function readTerms(
  client: Queryable,
  { version, language, inForce }: { version: string; language: Language; inForce: string },
): Promise<Terms | null> {
  const { rows } = await client.query<TermsText>(
    'SELECT title, body FROM terms_texts WHERE version = $1 AND language = $2',
    [version, language],
  );
  const text = rows[0] ?? (version === inForce ? SHIPPED_TERMS[language] : undefined);
  return text === undefined ? null : { version, language, ...text };
}

/**
 * Keeps the texts of a version, in the caller's transaction. False: somebody has accepted that version, so what they
 * read stays as it is.
 */
export async function writeTerms(
  client: Queryable,
  version: string,
  texts: Readonly<Record<Language, TermsText>>,
  adminId: string,
): Promise<boolean> {
  // Nobody accepts between the look and the write: their row would not be seen.
  await client.query('LOCK TABLE consents IN SHARE MODE');
  const { rowCount } = await client.query('SELECT 1 FROM consents WHERE terms_version = $1 LIMIT 1', [
    version,
  ]);
  if (rowCount !== 0) return false;
  for (const language of LANGUAGES)
    await client.query(
      `INSERT INTO terms_texts (version, language, title, body, created_by) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT (version, language) DO UPDATE SET title = EXCLUDED.title, body = EXCLUDED.body,
         created_by = EXCLUDED.created_by, created_at = now()`,
      [version, language, texts[language].title, texts[language].body, adminId],
    );
  return true;
}
