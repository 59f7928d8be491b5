import { type ExitName, exitCode } from './exit-codes.js';

/** A command that came to nothing: what its user is told, and the exit code. */
export class CommandFailure extends Error {
  readonly exitCode: number;
  constructor(
    readonly exit: ExitName,
    text: string,
  ) {
    super(text);
    this.exitCode = exitCode(exit);
  }
}
