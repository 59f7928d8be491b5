import type { Readable } from 'node:stream';

/** Where backups lie. Names are those of files, without a folder. */
export interface BackupStorage {
  readonly kind: 'folder' | 's3';
  /**
   * Writes a file; it has its name only when it is whole. Rejects, and leaves nothing, when the source fails
   * or the signal says stop.
   */
  put(file: string, source: Readable, signal: AbortSignal): Promise<void>;
  read(file: string): Promise<Readable>;
  /** One that is not there is no error. */
  remove(file: string): Promise<void>;
  /** Takes away what a crash has left half done. Call while nothing is being written. */
  tidy(): Promise<void>;
}

export type BackupFailure =
  | 'backup_tool_missing'
  | 'backup_tool_outdated'
  | 'backup_storage_unusable'
  | 'backup_not_verified'
  | 'backup_failed';

/** A backup that did not come about. The message is for admins: no secret is in it. */
export class BackupFailed extends Error {
  constructor(
    readonly code: BackupFailure,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
