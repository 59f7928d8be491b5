/** What a job may use while it runs. */
export interface JobContext {
  /** Aborted when the control plane stops: end soon, by throwing. */
  signal: AbortSignal;
}

/** What a run says of itself, for people: counts, names. JSON. */
export type JobResult = Readonly<Record<string, unknown>>;

/** Work in the background. One run of it at a time, on all control planes together; it must bear to be repeated. */
export interface Job {
  /** `[a-z_]+`, for ever the same. */
  name: string;
  /** For people, one sentence. */
  description: string;
  /** When it runs, five fields of crontab in UTC; null: only when it is asked for. */
  schedule: string | null;
  /** Also once whenever a control plane begins to run jobs: what people look at must not wait for the schedule. */
  atStart?: boolean;
  /** Tries of one run; waits of e^1, e^2, e^3 … seconds lie between them. Default 5. */
  attemptsMax?: number;
  /** Rejects when it failed: it is logged, counted, shown and tried again. */
  run(context: JobContext): Promise<JobResult>;
}

export const JOB_NAME = /^[a-z][a-z_]{1,39}$/;
