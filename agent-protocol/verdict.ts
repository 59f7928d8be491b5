/**
 * What may become of bytes that are about to go on.
 *
 * `GO`: they are counted, and must go on now. `REFUSE`: they are not counted and must not go on, ever: the connection
 * is cut. `WAIT`: they are not counted and must not go on yet; whoever holds them keeps them, stops reading more, and
 * offers them again when told to.
 */
export const Verdict = { REFUSE: 0, GO: 1, WAIT: 2 } as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];
