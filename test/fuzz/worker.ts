/** One worker of `npm run fuzz`: gateways of its own, and the batches it is told to play at them. */
import { Campaign, type CampaignOptions, narrow, type Outcome } from './campaign.js';
import type { Kind } from './input.js';

/** What the runner asks for: first seed and the one behind the last. */
export interface Task {
  first: number;
  end: number;
}

export interface Failure {
  what: string;
  /** The seeds it takes. */
  first: number;
  end: number;
}

/** What it is told. `over`: after the last task, with what stopping showed. */
export type Answer =
  | { ready: true }
  | { task: Task; outcome: Outcome; failure: Failure | null }
  | { error: string }
  | { over: true; problem: string | null; memory: Campaign['memory'] };

/** A violation with the fewest seeds that show it. */
export async function failureOf(
  options: CampaignOptions,
  { first, end }: Task,
  { violation }: Outcome,
): Promise<Failure | null> {
  if (violation === null) return null;
  if (violation.seed !== null)
    return { what: violation.what, first: violation.seed, end: violation.seed + 1 };
  return (await narrow(options, first, end)) ?? { what: `${violation.what} (did not come back)`, first, end };
}

function work(kinds: readonly Kind[]): void {
  const campaign = new Campaign({ kinds });
  const say = (answer: Answer) => process.send?.(answer);
  const run = async (task: Task): Promise<void> => {
    const outcome = await campaign.run(task.first, task.end);
    if (outcome.violation !== null) await campaign.stop();
    say({ task, outcome, failure: await failureOf({ kinds }, task, outcome) });
  };
  process.on('message', (message: Task | 'end') => {
    if (message !== 'end') {
      run(message).catch((error: Error) => say({ error: error.stack ?? String(error) }));
      return;
    }
    const { memory } = campaign;
    campaign.stop().then(
      (problem) => say({ over: true, problem, memory }),
      (error: Error) => say({ error: error.stack ?? String(error) }),
    );
  });
  process.on('disconnect', () => {
    void campaign.stop().finally(() => process.exit(0));
  });
  say({ ready: true });
}

if (process.send !== undefined && process.argv[2] !== undefined) work(process.argv[2].split(',') as Kind[]);
