import type { Figures } from '../phases.js';

/** What a phase under load found; figures are told also when something went wrong. */
export interface Outcome {
  figures: Figures;
  /** A sentence for each thing that must not happen: the run fails. */
  problems: string[];
  /** What has to be known to read the figures. */
  remarks: string[];
}

export function newOutcome(): Outcome {
  return { figures: {}, problems: [], remarks: [] };
}

/** An outcome with nothing but why the phase could not run. */
export function notRun(why: string): Outcome {
  return { figures: {}, problems: [why], remarks: [] };
}
