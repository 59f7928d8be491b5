import { createHash, timingSafeEqual } from 'node:crypto';

/** Cryptomus's signature of a body: md5(base64(body) + key), hex. Of the exact bytes that are sent. */
export function signatureOf(body: string | Buffer, key: string): string {
  const base64 = Buffer.from(body as string).toString('base64');
  return createHash('md5')
    .update(base64 + key)
    .digest('hex');
}

/**
 * Whether a webhook's `sign` is the signature of the rest of its body, as PHP's
 * `json_encode($data, JSON_UNESCAPED_UNICODE)` writes it. Anything that is no JSON object with one `sign` is not.
 */
export function isSignedWebhook(rawBody: string, key: string): boolean {
  const parts = withoutMember(rawBody, 'sign');
  if (parts === null || parts.removed.length !== 1) return false;
  const expected = Buffer.from(signatureOf(parts.json, key));
  const given = Buffer.from(String(parts.removed[0]));
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** Tokens of JSON that is known to be valid; blanks between them are left out. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * The JSON object without a member, spelled as PHP would: no blanks, `/` as `\/`, unicode as is. Members keep their
 * order and numbers their digits (a parsed and written number may lose both). Null when it is no JSON object.
 */
function withoutMember(text: string, name: string): { json: string; removed: unknown[] } | null {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const tokens = text.match(TOKENS) ?? [];
  if (tokens[0] !== '{') return null;
  const members: string[][] = [[]];
  let depth = 0;
  for (const token of tokens.slice(1, -1)) {
    if (token === '{' || token === '[') depth++;
    else if (token === '}' || token === ']') depth--;
    if (token === ',' && depth === 0) members.push([]);
    else members.at(-1)?.push(token.startsWith('"') ? phpString(JSON.parse(token)) : token);
  }
  const isNamed = (member: string[]) => member[0] === JSON.stringify(name);
  return {
    json: `{${members
      .filter((member) => !isNamed(member))
      .map((member) => member.join(''))
      .join(',')}}`,
    removed: members.filter(isNamed).map((member) => JSON.parse(member.slice(2).join(''))),
  };
}

/** A string as `json_encode(…, JSON_UNESCAPED_UNICODE)` writes it: line separators are escaped all the same. */
function phpString(value: string): string {
  return JSON.stringify(value)
    .replaceAll('/', '\\/')
    .replace(/[\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
}
