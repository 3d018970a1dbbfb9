/**
 * What a prober believes of whom it probes, from one round of probes to the next. Pure: rounds and the time are given.
 */
export interface BeliefOptions {
  /** Probes in a row without an answer after which somebody who always answered counts as silent. */
  readonly failures: number;
  /** Milliseconds in which every probe has to be answered before somebody silent is believed again. */
  readonly hold: number;
}

export interface Belief {
  /** It has answered once. Of somebody who never did nothing can be said: perhaps ICMP is filtered. */
  readonly heard: boolean;
  readonly silent: boolean;
  /** Two for each probe without an answer, less one for each answer: loss of a third or more adds up. */
  readonly suspicion: number;
  /** While silent: since when every probe has been answered. */
  readonly answeringSince: number | undefined;
  /** Milliseconds it has to answer before it is believed again; doubles when it falls silent again soon. */
  readonly hold: number;
  /** When it was last believed again. */
  readonly trustedAt: number | undefined;
}

/** Longest time that somebody who keeps falling silent has to answer. */
const MAX_HOLD = 60_000;
/** A relapse counts as one when it comes within so many holds. */
const RELAPSE = 30;

/** At the start; `silent` for somebody who was found silent before this process began. */
export function firstBelief(options: BeliefOptions, silent = false): Belief {
  return {
    heard: silent,
    silent,
    suspicion: 0,
    answeringSince: undefined,
    hold: options.hold,
    trustedAt: undefined,
  };
}

/** The belief after a round in which the probe was answered, or was not. `now` in milliseconds, monotonic. */
export function nextBelief(before: Belief, answered: boolean, now: number, options: BeliefOptions): Belief {
  if (before.silent) {
    if (!answered)
      return before.answeringSince === undefined ? before : { ...before, answeringSince: undefined };
    const answeringSince = before.answeringSince ?? now;
    return now - answeringSince < before.hold
      ? { ...before, answeringSince }
      : { ...before, silent: false, suspicion: 0, answeringSince: undefined, trustedAt: now };
  }
  if (!before.heard) return answered ? { ...before, heard: true } : before;
  const suspicion = answered ? Math.max(0, before.suspicion - 1) : before.suspicion + 2;
  if (suspicion < options.failures * 2)
    return suspicion === before.suspicion ? before : { ...before, suspicion };
  const relapse = before.trustedAt !== undefined && now - before.trustedAt < before.hold * RELAPSE;
  const hold = relapse ? Math.min(Math.max(MAX_HOLD, options.hold), before.hold * 2) : options.hold;
  return { ...before, silent: true, suspicion: 0, answeringSince: undefined, hold };
}

/** Its last probe, or the one before, was answered. */
export const isFresh = (belief: Belief): boolean => belief.heard && !belief.silent && belief.suspicion < 4;
