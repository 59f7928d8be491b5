import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Ok, problemResponses } from '../http/schemas.js';
import type { SettingsStore } from '../settings/settings.js';
import { LANGUAGES } from '../users/users.js';
import { readTerms, writeTerms } from './terms.js';

export interface TermsDeps {
  pool: pg.Pool;
  settings: Pick<SettingsStore, 'read'>;
}

const Version = Type.String({ minLength: 1, maxLength: 40 });
const Text = Type.Object(
  {
    title: Type.String({ minLength: 1, maxLength: 200 }),
    body: Type.String({ minLength: 1, maxLength: 60_000, description: 'plain text' }),
  },
  { additionalProperties: false },
);
const example = { title: 'Terms', body: 'What sharing means, and what you allow by it.' };

/** The terms that providers accept, as text: `/api/terms`, `/api/admin/terms/{version}`. */
export const termsPlugin: FastifyPluginAsyncTypebox<TermsDeps> = async (app, { pool, settings }) => {
  app.get(
    '/api/terms',
    {
      config: { roles: ['none'] },
      schema: {
        tags: ['System'],
        summary: 'The terms',
        description:
          'What a provider accepts by `POST /api/user/consent`, to be shown before they do. The version in force, or ' +
          '`version`; in English unless `language` says otherwise.',
        querystring: Type.Object(
          { language: Type.Optional(Type.Enum([...LANGUAGES])), version: Type.Optional(Version) },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            version: Version,
            language: Type.Enum([...LANGUAGES]),
            title: Type.String(),
            body: Type.String({ description: 'plain text; paragraphs with an empty line between' }),
            in_force: Type.Boolean(),
          }),
          ...problemResponses(404),
        },
      },
    },
    async (request) => {
      const { termsVersion: inForce } = await settings.read();
      const { language = 'en', version = inForce } = request.query;
      const terms = await readTerms(pool, { version, language, inForce });
      if (terms === null) throw new Problem('not_found', 'There are no terms of this version.');
      return { ...terms, in_force: version === inForce };
    },
  );

  app.put(
    '/api/admin/terms/:version',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Write the terms of a version',
        description:
          'In all languages; before `PATCH /api/admin/settings` puts that `terms_version` in force. Once somebody has ' +
          'accepted a version its text stays as they read it: 409, take a new version.',
        params: Type.Object({ version: Version }, { additionalProperties: false }),
        body: Type.Object(
          { texts: Type.Object({ en: Text, ru: Text, uz: Text }, { additionalProperties: false }) },
          { additionalProperties: false, examples: [{ texts: { en: example, ru: example, uz: example } }] },
        ),
        response: { 200: Ok, ...problemResponses(401, 403, 409) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const { version } = request.params;
      const { texts } = request.body;
      await withTransaction(pool, async (client) => {
        if (!(await writeTerms(client, version, texts, userId))) throw new Problem('terms_accepted');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'terms_written',
          objectType: 'terms',
          objectId: version,
          after: { texts },
        });
      });
      return { ok: true as const };
    },
  );
};
