import { describeJournal, type JournalDescription } from '../../gateway/metering/journal-describe.js';
import { JournalError } from '../../gateway/metering/journal-file.js';

/**
 * `traffic-share journal inspect`: what a gateway's meter journal holds, without taking or changing it; the gateway
 * may be running. Returns the exit code: 0, or 1 when the file cannot be read or is damaged.
 */
export function runJournalInspect(path: string, options: { json: boolean }): number {
  let journal: JournalDescription;
  try {
    journal = describeJournal(path);
  } catch (error) {
    if (!isExpected(error)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
  process.stdout.write(options.json ? `${JSON.stringify(journal, null, 2)}\n` : describe(journal));
  // A torn write is what a gateway that runs, or was killed, leaves: the copy beside it is whole.
  return journal.problems.every((problem) => problem.kind === 'torn') ? 0 : 1;
}

/** Not a journal, or nothing there that may be read: said in one line. */
function isExpected(error: unknown): error is Error {
  return error instanceof JournalError || (error instanceof Error && 'syscall' in error);
}

function describe({ header, slotCount, freeCount, meters, problems }: JournalDescription): string {
  const lines = [
    `gateway   ${header.gatewayId}`,
    `version   ${header.version}`,
    `created   ${new Date(header.createdAtMs).toISOString()}`,
    `slots     ${slotCount}, ${freeCount} free`,
    `meters    ${meters.length}`,
  ];
  for (const { slot, torn, report: r } of meters)
    lines.push(
      '',
      `slot ${slot}  ${r.final ? 'final' : 'open'}${torn ? ', last write torn' : ''}`,
      `  bytes       up ${r.bytesUp}, down ${r.bytesDown}`,
      `  session     ${r.sessionId}`,
      `  allocation  ${r.allocationId}${r.packageId === null ? '' : ` of package ${r.packageId}`}`,
      `  buyer       ${r.buyerId}${r.subUserId === null ? '' : `, sub-user ${r.subUserId}`}`,
      `  epoch       ${r.epoch}`,
      `  prices      provider ${r.providerPriceMicrosPerGb}, buyer ${r.buyerPriceMicrosPerGb} micro-dollars a GB`,
      `  opened      ${new Date(r.openedAtMs).toISOString()}, last byte ${new Date(r.activeAtMs).toISOString()}`,
    );
  if (problems.length > 0)
    lines.push(
      '',
      ...problems.map((p) => `${p.kind === 'torn' ? 'torn write' : `DAMAGE ${p.kind}`} in slot ${p.slot}`),
    );
  return `${lines.join('\n')}\n`;
}
