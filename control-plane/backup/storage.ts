import type { Readable } from 'node:stream';

/** Where backups lie. Names are those of files, without a folder. */
export interface BackupStorage {
  readonly kind: 'folder' | 's3';
  /**
   * Writes a file; it has its name only when it is whole. Rejects, and leaves nothing, when the source fails
   * or the signal says stop.
   */
  put(file: string, source: Readable, signal: AbortSignal): Promise<void>;
  /** Rejects with `backup_not_found`, or its stream fails so, when there is none. */
  read(file: string): Promise<Readable>;
  /** One that is not there is no error. */
  remove(file: string): Promise<void>;
  /** Names of all whole files, in no order. */
  list(): Promise<string[]>;
  /** Takes away what a crash has left half done. Call while nothing is being written. */
  tidy(): Promise<void>;
}

/** Codes of what keeps a backup from being made, read or restored; for ever the same. */
export type BackupFailure =
  | 'backup_not_configured'
  | 'backup_tool_missing'
  | 'backup_tool_outdated'
  | 'backup_key_missing'
  | 'backup_under_way'
  | 'backup_storage_unusable'
  | 'backup_no_space'
  | 'backup_not_verified'
  | 'backup_failed'
  | 'backup_not_found'
  | 'backup_damaged'
  | 'backup_too_new'
  | 'restore_server_too_old'
  | 'restore_target_not_empty'
  | 'restore_target_in_use'
  | 'restore_not_permitted'
  | 'restore_failed'
  | 'restore_differs';

/** A backup that did not come about, or can not be used. The message is for admins: no secret is in it. */
export class BackupFailed extends Error {
  constructor(
    readonly code: BackupFailure,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
