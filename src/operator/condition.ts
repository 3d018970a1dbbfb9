import type { PresentCondition } from '../api/crds/load-balancer-ip-pool.ts';
import { timestamp } from '../kube/time.ts';

/** A condition as it is to be; the time of its last transition is the writer's to say. */
export type WantedCondition = Omit<PresentCondition, 'lastTransitionTime' | 'observedGeneration'> & {
  readonly observedGeneration: number;
  /** Time of the last transition where the status stays what it is. */
  readonly since: string | undefined;
};

/** Both absent, or equal but for the time. */
export function sameCondition(
  present: PresentCondition | undefined,
  wanted: Omit<WantedCondition, 'since'> | undefined,
): boolean {
  if (!present || !wanted) return present === wanted;
  return (
    present.status === wanted.status &&
    present.reason === wanted.reason &&
    present.message === wanted.message &&
    (present.observedGeneration ?? 0) === wanted.observedGeneration
  );
}

/** Time of the last transition where the status stays what it is. */
export const sinceOf = (present: PresentCondition | undefined, status: string): string | undefined =>
  present?.status === status ? present.lastTransitionTime : undefined;

/** As it is written: a transition happens when it is written. */
export const withTime = ({ since, ...condition }: WantedCondition): object => ({
  ...condition,
  lastTransitionTime: since ?? timestamp(),
});
