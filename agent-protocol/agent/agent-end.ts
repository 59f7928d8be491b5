/** How the agent ended. */
export interface AgentEnd {
  /** 0 stopped as asked, 1 unexpected, 2 refused until its owner acts, 3 replaced by another agent of the device. */
  readonly exitCode: 0 | 1 | 2 | 3;
  /** `stopped`, or the code of the refusal or GOAWAY. */
  readonly code: string;
  /** For the owner: what happened and what to do. */
  readonly text: string;
}

/** GOAWAY codes after which connecting again would be wrong or useless. */
export const FINAL_GOAWAYS: Readonly<Record<string, Omit<AgentEnd, 'code'>>> = {
  stopped: {
    exitCode: 2,
    text: 'Sharing was stopped from the app or the bot. Start it there or here again.',
  },
  consent_withdrawn: {
    exitCode: 2,
    text: 'Consent was withdrawn, nothing is shared any more. Accept the terms again to share.',
  },
  banned: {
    exitCode: 2,
    text: 'This account or device is banned. Write to support from the app or the bot.',
  },
  client_too_old: {
    exitCode: 2,
    text: 'This version of the agent is too old. Update it, then start it again.',
  },
  replaced: {
    exitCode: 3,
    text: 'Another agent connected with the same device. Register a device of its own for each.',
  },
};

/** GOAWAY codes that mean: not from this network. */
export const REGION_GOAWAYS: ReadonlySet<string> = new Set(['unpaid_region']);
