import { isIP } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { classifyAddress, embeddedIpv4, mappedIpv4, parseHost } from '../../agent-protocol/address.js';
import { parseUsername, type RouteParams, USERNAME_BYTES_MAX } from '../../gateway/buyers/username.js';
import { readHost } from '../../gateway/listeners/destination.js';
import type { Random } from '../sim/random.js';
import { mutate, perhapsSpoilt, randomBytes } from './mutate.js';
import { badLogin, goodLogin } from './people.js';

/** The username that names exactly these parameters. */
function usernameOf(params: RouteParams): string {
  const value = (text: string) => text.replaceAll(' ', '_');
  const parts: Array<[string, string | number | null]> = [
    ['country', params.country],
    ['state', params.state && value(params.state)],
    ['city', params.city && value(params.city)],
    ['asn', params.asn],
    ['isp', params.isp && value(params.isp)],
    ['session', params.session],
    ['ttl', params.ttlMinutes],
    ['strict', params.strict ? 1 : 0],
    ['fallback', params.fallback],
    ['net', params.net],
    ['package', params.packageId?.replaceAll('-', '') ?? null],
    ['tag', params.tag],
  ];
  return params.account + parts.map(([key, v]) => (v === null ? '' : `-${key}-${v}`)).join('');
}

export function usernameProblem(random: Random): string | null {
  const make = () => Buffer.from((random.chance(0.5) ? goodLogin(random) : badLogin(random)).username);
  const username = perhapsSpoilt(random, make(), make).toString();
  const parsed = parseUsername(username);
  if (!parsed.ok)
    return parsed.code === 'BAD_PARAM' && parsed.detail !== undefined ? null : `code ${parsed.code}`;
  const { params } = parsed;
  if (Buffer.byteLength(username) > USERNAME_BYTES_MAX) return 'longer than any username';
  if (!/^[a-z0-9]{4,32}$/.test(params.account)) return `account ${params.account}`;
  if (params.country !== null && !/^[A-Z]{2}$/.test(params.country)) return `country ${params.country}`;
  if (params.ttlMinutes < 1 || params.ttlMinutes > 1_440) return `ttl ${params.ttlMinutes}`;
  if (params.asn !== null && !(params.asn >= 1 && params.asn <= 0xffff_ffff)) return `asn ${params.asn}`;
  const again = usernameOf(params);
  if (Buffer.byteLength(again) > USERNAME_BYTES_MAX) return null;
  const reparsed = parseUsername(again);
  if (!reparsed.ok || !isDeepStrictEqual(reparsed.params, params))
    return `${username} is read again as ${again}`;
  return null;
}

const HOSTS: readonly string[] = [
  'example.org',
  'EXAMPLE.org.',
  'xn--bcher-kva.example',
  'bücher.example',
  '127.0.0.1',
  '0x7f.1',
  '0177.0.0.01',
  '2130706433',
  '１２７.0.0.1',
  '169.254.169.254',
  '[::1]',
  '::ffff:10.0.0.1',
  '64:ff9b::7f00:1',
  'fe80::1%eth0',
  '2001:db8::1',
  'a'.repeat(64),
  `${'a.'.repeat(127)}b`,
  'localhost',
  'printer.local',
  '_dmarc.example.org',
];

export function hostProblem(random: Random): string | null {
  const make = () => Buffer.from(random.chance(0.9) ? random.pick(HOSTS) : randomAddress(random));
  const bytes = random.chance(0.3) ? make() : mutate(random, make());
  const text = random.chance(0.8) ? bytes.toString() : bytes.toString('latin1');
  const read = readHost(text);
  if (read !== null) {
    if (!/^[\x21-\x7e]{1,255}$/.test(read))
      return `${JSON.stringify(text)} is read as ${JSON.stringify(read)}`;
    if (readHost(read) !== read) return `${text}: ${read} is read again as ${readHost(read)}`;
  }
  return classProblem(text) ?? (read === null ? null : classProblem(read));
}

function randomAddress(random: Random): string {
  const bytes = randomBytes(random, 16);
  if (random.chance(0.5)) return bytes.subarray(0, 4).join('.');
  return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16)).join(':');
}

/** Whatever is handed on is in a form that means the same to the next reader. */
function classProblem(text: string): string | null {
  classifyAddress(text);
  mappedIpv4(text);
  embeddedIpv4(text);
  const parsed = parseHost(text);
  if (parsed.kind === 'invalid') return null;
  const form = 'address' in parsed ? parsed.address : parsed.name;
  if ('address' in parsed) {
    if (isIP(form) !== (parsed.kind === 'ipv4' ? 4 : 6)) return `${text}: address ${form}`;
    if (classifyAddress(form) !== parsed.class)
      return `${text}: ${form} is ${classifyAddress(form)}, not ${parsed.class}`;
  } else if (isIP(form) !== 0 || !/^[a-z0-9_.-]{1,253}$/.test(form)) return `${text}: name ${form}`;
  return isDeepStrictEqual(parseHost(form), parsed) ? null : `${text}: ${form} is another host`;
}
