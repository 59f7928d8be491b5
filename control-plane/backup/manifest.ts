import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { type BackupKeys, keyOf, sealText, unsealText } from './sealing.js';
import { BackupFailed } from './storage.js';

/** Names of dumps; the manifest's has `.json` behind it. */
const FILE = /^traffic-share-\d{8}T\d{6}-[0-9a-f]{8}\.dump(\.sealed)?$/;
const MANIFEST = '.json';
/** `sha256sum -c` takes it. */
const CHECKSUM = '.sha256';

const Count = Type.Integer({ minimum: 0 });
const Micros = Type.String({ pattern: '^-?\\d{1,30}$' });

const ContentsSchema = Type.Object({
  /** Postgres's `server_version_num`. */
  server_version_num: Count,
  migrations: Type.Array(Type.String()),
  /** By kind of account: how many there are, and the sum of their balances. */
  ledger: Type.Record(Type.String(), Type.Object({ accounts: Count, balance_micros: Micros })),
  /** By table of the schema `public`. */
  rows: Type.Record(Type.String(), Count),
  /** `backups.id` of those who asked for it. */
  backup_ids: Type.Array(Type.String()),
});

const PublicSchema = Type.Object({
  format: Type.Literal(1),
  file: Type.String({ pattern: FILE.source }),
  made_at: Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' }),
  size_bytes: Count,
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  key_id: Type.Union([Type.String({ pattern: '^[0-9a-f]{16}$' }), Type.Null()]),
  schema_version: Type.String(),
});

/** What was in the database in the very snapshot that was dumped. */
export type BackupContents = Type.Static<typeof ContentsSchema>;

/** What anybody who sees the storage may know of a backup. */
export type BackupLabel = Type.Static<typeof PublicSchema>;

/** A backup that is whole: its manifest is written last. */
export interface Manifest extends BackupLabel {
  /** Null: sealed with a key that is not known here. */
  contents: BackupContents | null;
}

/** Name of a backup made at this moment; `id`: of who asked. */
export function fileNameOf(madeAt: Date, id: string, sealed: boolean): string {
  const stamp = madeAt.toISOString().replace(/[-:]/g, '').slice(0, 15);
  return `traffic-share-${stamp}-${id.slice(0, 8)}.dump${sealed ? '.sealed' : ''}`;
}

/** Whether a file of the storage is one of ours, and what: others are none of our business. */
export function kindOfFile(name: string): { kind: 'dump' | 'manifest'; file: string } | null {
  if (FILE.test(name)) return { kind: 'dump', file: name };
  const file = name.endsWith(MANIFEST) ? name.slice(0, -MANIFEST.length) : '';
  return FILE.test(file) ? { kind: 'manifest', file } : null;
}

export const manifestOf = (file: string): string => file + MANIFEST;
export const checksumOf = (file: string): string => file + CHECKSUM;

/** What the sealed part is bound to: a label that is changed opens no contents. */
const boundOf = (label: BackupLabel): string =>
  JSON.stringify([
    label.format,
    label.file,
    label.made_at,
    label.size_bytes,
    label.sha256,
    label.key_id,
    label.schema_version,
  ]);

/** As JSON; contents are sealed when the dump is. */
export function writeManifest(label: BackupLabel, contents: BackupContents, keys: BackupKeys): string {
  const sealed =
    label.key_id === null
      ? contents
      : sealText(keyOf(keys, label.key_id), JSON.stringify(contents), boundOf(label));
  return `${JSON.stringify({ ...label, contents: sealed }, null, 2)}\n`;
}

/** Reads what `writeManifest` wrote of this file. Throws `backup_damaged`. */
export function readManifest(file: string, text: string, keys: BackupKeys): Manifest {
  const broken = (how: string) => new BackupFailed('backup_damaged', `The manifest of ${file} ${how}.`);
  let json: { contents?: unknown };
  try {
    json = JSON.parse(text);
  } catch {
    throw broken('is no JSON');
  }
  if (!Value.Check(PublicSchema, json) || json.file !== file) throw broken('does not say what it must');
  const { format, made_at, size_bytes, sha256, key_id, schema_version } = json;
  const label = { format, file, made_at, size_bytes, sha256, key_id, schema_version };
  let contents: unknown = (json as { contents?: unknown }).contents;
  if (key_id !== null) {
    if (![keys.current, ...keys.old].some((key) => key?.id === key_id)) return { ...label, contents: null };
    const opened =
      typeof contents === 'string' ? unsealText(keyOf(keys, key_id), contents, boundOf(label)) : null;
    if (opened === null) throw broken('was changed');
    contents = JSON.parse(opened);
  }
  if (!Value.Check(ContentsSchema, contents)) throw broken('does not say what it must');
  return { ...label, contents };
}
