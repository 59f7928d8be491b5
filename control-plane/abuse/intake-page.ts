import { createHash } from 'node:crypto';
import type { Static } from 'typebox';
import { type Say, textIn } from '../texts/fluent.js';
import { LANGUAGES, type Language } from '../users/users.js';
import type { StatusSchema } from './report-schemas.js';

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 40rem; margin: 0 auto; padding: 1rem; }
label { display: block; margin: 1rem 0 0; font-weight: 600; }
small { display: block; font-weight: 400; }
input, textarea, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem; min-height: 2.75rem; }
button { margin-top: 1rem; width: auto; }
.error { color: #b3261e; }
@media (prefers-color-scheme: dark) { .error { color: #ff8a80; } }
code { font-size: 1.1em; overflow-wrap: anywhere; }
nav a { display: inline-block; padding: .6rem .6rem .6rem 0; }
.trap { position: absolute; left: -100vw; }
`;

/** The pages' Content-Security-Policy: no script, this one style, forms to us alone, in nobody's frame. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join('; ');

const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const escaped = (text: string) => text.replace(/[&<>"']/g, (one) => ESCAPES[one] as string);

const NATIVE_NAMES: Record<Language, string> = { en: 'English', ru: 'Русский', uz: 'O‘zbekcha' };

/** What is wrong with a field of the form. */
export type FieldError = 'missing' | 'future' | 'invalid';

interface FormField {
  name: string;
  label: string;
  hint: string;
  /** What is said of a value that can not be taken. */
  invalid: string;
  attributes: string;
}

/** Labels and hints are messages. */
const FIELDS: readonly FormField[] = [
  {
    name: 'exit_ip',
    label: 'page-ip',
    hint: 'page-ip-hint',
    invalid: 'page-ip-invalid',
    attributes: 'required maxlength="45" autocomplete="off" autocapitalize="off"',
  },
  {
    name: 'happened_at',
    label: 'page-when',
    hint: 'page-when-hint',
    invalid: 'page-when-invalid',
    attributes: 'type="datetime-local" step="1" required',
  },
  {
    name: 'destination',
    label: 'page-destination',
    hint: 'page-destination-hint',
    invalid: 'page-destination-invalid',
    attributes: 'maxlength="253" autocapitalize="off"',
  },
  {
    name: 'port',
    label: 'page-port',
    hint: 'page-port-hint',
    invalid: 'page-port-invalid',
    attributes: 'inputmode="numeric" maxlength="5"',
  },
  {
    name: 'contact',
    label: 'page-contact',
    hint: 'page-contact-hint',
    invalid: 'page-contact-invalid',
    attributes: 'maxlength="200"',
  },
];
const DESCRIPTION: FormField = {
  name: 'description',
  label: 'page-what',
  hint: 'page-what-hint',
  invalid: 'page-what-invalid',
  attributes: 'rows="8" required minlength="10" maxlength="4000"',
};

const STATES = { open: 'page-open', answered: 'page-answered', closed: 'page-closed' } as const;
const OUTCOMES = {
  acted: 'page-acted',
  not_found: 'page-not-found',
  no_abuse: 'page-no-abuse',
  duplicate: 'page-duplicate',
  spam: 'page-spam',
} as const;

/** The pages of reports of abuse in one language. */
export class IntakePages {
  readonly #say: Say;

  constructor(private readonly language: Language) {
    this.#say = (id, args) => escaped(textIn(language, id, args));
  }

  /** The form; with what was filled in and what is wrong with it, by field. */
  form(values: Readonly<Record<string, string>>, errors: Readonly<Record<string, FieldError>>): string {
    const t = this.#say;
    const field = (one: FormField, control: (by: string) => string) => {
      const { name, label, hint, invalid } = one;
      const error = errors[name];
      const words = { missing: 'page-missing', future: 'page-future', invalid };
      const told = error && `<small class="error" id="${name}-error">${t(words[error])}</small>`;
      const by = error ? ` aria-invalid="true" aria-describedby="${name}-error"` : '';
      return `<label for="${name}">${t(label)}<small>${t(hint)}</small></label>\n${control(by)}${told ?? ''}`;
    };
    const input = (one: FormField) =>
      field(one, (by) => {
        const { name, attributes } = one;
        return `<input id="${name}" name="${name}" value="${escaped(values[name] ?? '')}" ${attributes}${by}>`;
      });
    const text = escaped(values.description ?? '');
    return this.#shell(
      t('page-title'),
      `<p>${t('page-intro')}</p>
${Object.keys(errors).length === 0 ? '' : `<p class="error" role="alert">${t('page-not-sent')}</p>`}
<form method="post" action="/abuse">
${this.#keepLanguage()}
${FIELDS.map(input).join('\n')}
${field(DESCRIPTION, (by) => `<textarea id="description" name="description" ${DESCRIPTION.attributes}${by}>${text}</textarea>`)}
<div class="trap" aria-hidden="true"><label for="website">${t('page-trap')}</label>
<input id="website" name="website" tabindex="-1" autocomplete="off"></div>
<button type="submit">${t('page-send')}</button>
</form>
<h2>${t('page-status')}</h2>
${this.#statusForm()}`,
    );
  }

  /** Why nothing was taken, other than what is wrong with a field. */
  refusal(why: 'body_too_large' | 'rate_limited'): string {
    const t = this.#say;
    const words = { body_too_large: 'page-too-large', rate_limited: 'page-too-many' } as const;
    return this.#shell(
      t('page-title'),
      `<p class="error" role="alert">${t(words[why])}</p>\n${this.#back()}`,
    );
  }

  /** What the reporter is to write down. */
  receipt({ reference, secret }: { reference: string; secret: string }): string {
    const t = this.#say;
    return this.#shell(
      t('page-thanks'),
      `<p>${t('page-received')}</p>
<p>${t('page-reference')}: <code id="given-reference">${escaped(reference)}</code></p>
<p>${t('page-secret')}: <code id="given-secret">${escaped(secret)}</code></p>
${this.#back()}`,
    );
  }

  /** What became of a report; null: reference or secret are wrong. */
  status(status: Static<typeof StatusSchema> | null): string {
    const t = this.#say;
    if (status === null)
      return this.#shell(
        t('page-none-title'),
        `<p class="error" role="alert">${t('page-none')}</p>\n${this.#statusForm()}`,
      );
    const { reference, state, outcome, answer, received_at: receivedAt } = status;
    const when = `${receivedAt.slice(0, 16).replace('T', ' ')} UTC`;
    return this.#shell(
      t('page-report', { reference }),
      `<p>${t('page-received-at', { when })} ${t(STATES[state])} ${outcome === null ? '' : t(OUTCOMES[outcome])}</p>
${answer === null ? '' : `<h2>${t('page-answer')}</h2>\n<p>${escaped(answer).replaceAll('\n', '<br>')}</p>`}
${this.#back()}`,
    );
  }

  #statusForm(): string {
    const t = this.#say;
    return `<form method="post" action="/abuse/status">
${this.#keepLanguage()}
<label for="reference">${t('page-reference')}</label>
<input id="reference" name="reference" required maxlength="40" autocomplete="off">
<label for="secret">${t('page-secret')}</label>
<input id="secret" name="secret" required maxlength="100" autocomplete="off">
<button type="submit">${t('page-look')}</button>
</form>`;
  }

  #keepLanguage(): string {
    return `<input type="hidden" name="lang" value="${this.language}">`;
  }

  #back(): string {
    return `<p><a href="/abuse?lang=${this.language}">${this.#say('page-back')}</a></p>`;
  }

  #shell(title: string, content: string): string {
    const link = (one: Language) =>
      `<a href="/abuse?lang=${one}" lang="${one}"${one === this.language ? ' aria-current="true"' : ''}>${NATIVE_NAMES[one]}</a>`;
    return `<!doctype html>
<html lang="${this.language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
<nav aria-label="${this.#say('page-languages')}">${LANGUAGES.map(link).join(' ')}</nav>
<main>
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`;
  }
}
