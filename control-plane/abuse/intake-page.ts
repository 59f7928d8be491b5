import { createHash } from 'node:crypto';
import type { Static } from 'typebox';
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

const shell = (title: string, content: string) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`;

interface FormField {
  name: string;
  label: string;
  hint: string;
  attributes: string;
}

const FIELDS: readonly FormField[] = [
  {
    name: 'exit_ip',
    label: 'Address the traffic came from',
    hint: 'An IPv4 or IPv6 address, from your log.',
    attributes: 'required maxlength="45" autocomplete="off" autocapitalize="off"',
  },
  {
    name: 'happened_at',
    label: 'When, in UTC',
    hint: 'As exactly as you know: addresses change their user.',
    attributes: 'type="datetime-local" step="1" required',
  },
  {
    name: 'destination',
    label: 'Your server (if you like)',
    hint: 'Its name or address.',
    attributes: 'maxlength="253" autocapitalize="off"',
  },
  {
    name: 'port',
    label: 'Its port (if you know)',
    hint: 'Such as 443.',
    attributes: 'inputmode="numeric" maxlength="5"',
  },
  {
    name: 'contact',
    label: 'How to reach you (if you like)',
    hint: 'We use it for this report alone.',
    attributes: 'maxlength="200"',
  },
];

function fieldHtml(field: FormField, value: string, error: string | undefined): string {
  const { name, label, hint, attributes } = field;
  const told = error === undefined ? '' : `<small class="error" id="${name}-error">${escaped(error)}</small>`;
  const by = error === undefined ? '' : ` aria-invalid="true" aria-describedby="${name}-error"`;
  return `<label for="${name}">${label}<small>${hint}</small></label>
<input id="${name}" name="${name}" value="${escaped(value)}" ${attributes}${by}>${told}`;
}

/** The form; with what was filled in and what is wrong with it, by field. */
export function formPage(
  values: Readonly<Record<string, string>>,
  errors: Readonly<Record<string, string>>,
): string {
  const { description: wrong } = errors;
  return shell(
    'Report abuse',
    `<p>Did traffic from one of our addresses harm you? Tell us here. We see who sent it, and answer; you need no account.</p>
${Object.keys(errors).length === 0 ? '' : '<p class="error" role="alert">Not sent yet: something is missing or wrong below.</p>'}
<form method="post" action="/abuse">
${FIELDS.map((field) => fieldHtml(field, values[field.name] ?? '', errors[field.name])).join('\n')}
<label for="description">What happened<small>A few lines of your log help most.</small></label>
<textarea id="description" name="description" rows="8" required minlength="10" maxlength="4000"${
      wrong === undefined ? '' : ' aria-invalid="true" aria-describedby="description-error"'
    }>${escaped(values.description ?? '')}</textarea>${
      wrong === undefined ? '' : `<small class="error" id="description-error">${escaped(wrong)}</small>`
    }
<div class="trap" aria-hidden="true"><label for="website">Leave this empty</label>
<input id="website" name="website" tabindex="-1" autocomplete="off"></div>
<button type="submit">Send</button>
</form>
<h2>What became of a report?</h2>
${statusForm()}`,
  );
}

const statusForm = (reference = '') => `<form method="post" action="/abuse/status">
<label for="reference">Reference</label>
<input id="reference" name="reference" value="${escaped(reference)}" required maxlength="40" autocomplete="off">
<label for="secret">Secret</label>
<input id="secret" name="secret" required maxlength="100" autocomplete="off">
<button type="submit">Look</button>
</form>`;

/** Why nothing was taken, other than what is wrong with a field. */
export function refusalPage(title: string, detail: string): string {
  return shell(
    escaped(title),
    `<p class="error" role="alert">${escaped(detail)}</p>\n<p><a href="/abuse">Back</a></p>`,
  );
}

/** What the reporter is to write down. */
export function receiptPage({ reference, secret }: { reference: string; secret: string }): string {
  return shell(
    'Thank you',
    `<p>Your report was received. Write both of these down: they show you our answer, and are shown only now.</p>
<p>Reference: <code id="given-reference">${escaped(reference)}</code></p>
<p>Secret: <code id="given-secret">${escaped(secret)}</code></p>
<p><a href="/abuse">Back</a></p>`,
  );
}

const STATES = { open: 'It waits for our answer.', answered: 'We have answered.', closed: 'It is closed.' };
const OUTCOMES = {
  acted: 'We acted against who sent the traffic.',
  not_found: 'We found no traffic of ours that fits.',
  no_abuse: 'We do not take it for abuse.',
  duplicate: 'It was reported before.',
  spam: 'It was no report.',
};

/** What became of a report; null: reference or secret are wrong. */
export function statusPage(status: Static<typeof StatusSchema> | null): string {
  if (status === null)
    return shell(
      'No such report',
      `<p class="error" role="alert">There is no report with this reference and secret.</p>\n${statusForm()}`,
    );
  const { reference, state, outcome, answer, received_at: receivedAt } = status;
  return shell(
    `Report ${escaped(reference)}`,
    `<p>Received ${receivedAt.slice(0, 16).replace('T', ' ')} UTC. ${STATES[state]} ${outcome === null ? '' : OUTCOMES[outcome]}</p>
${answer === null ? '' : `<h2>Our answer</h2>\n<p>${escaped(answer).replaceAll('\n', '<br>')}</p>`}
<p><a href="/abuse">Back</a></p>`,
  );
}
