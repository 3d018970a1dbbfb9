/** One line of the table. */
export interface Result {
  readonly what: string;
  readonly isthmus: string;
  /** What the project wants to reach; '' where there is none. */
  readonly goal: string;
  /** What the peer takes in the same run; absent where it was not asked or has no such thing. */
  readonly peer?: string;
  /** What Cilium 1.20.2 takes, measured on a machine of this kind; '' where it was not measured. */
  readonly cilium: string;
}

/** A Markdown table; with a column for the peer where its name is given. */
export function markdown(results: readonly Result[], peer: string | undefined): string {
  const head = [
    'measure',
    'Isthmus',
    'goal',
    ...(peer === undefined ? [] : [peer]),
    'Cilium 1.20.2, elsewhere',
  ];
  const rows = results.map(each => [
    each.what,
    each.isthmus,
    each.goal,
    ...(peer === undefined ? [] : [each.peer ?? '']),
    each.cilium,
  ]);
  return [head, head.map(() => '---'), ...rows].map(row => `| ${row.join(' | ')} |`).join('\n');
}

/** The value that a share of the list is not above. */
export function quantile(list: readonly number[], share: number): number {
  const sorted = list.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** `p50 / p90 / p99` of times in µs, as ms. */
export function spread(micros: readonly number[]): string {
  return [0.5, 0.9, 0.99].map(share => (quantile(micros, share) / 1000).toFixed(1)).join(' / ');
}

/** Seconds of a time in µs. */
export const seconds = (micros: number): string => `${(micros / 1e6).toFixed(2)} s`;
