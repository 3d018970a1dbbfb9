/** One line of the table. */
export interface Result {
  readonly what: string;
  readonly isthmus: string;
  /** What the project wants to reach; '' where there is none. */
  readonly goal: string;
  /** What Cilium 1.20.2 takes, measured on a machine of this kind; '' where it was not measured. */
  readonly cilium: string;
}

/** A Markdown table. */
export function markdown(results: readonly Result[]): string {
  const rows = results.map(each => `| ${each.what} | ${each.isthmus} | ${each.goal} | ${each.cilium} |`);
  return ['| measure | Isthmus | goal | Cilium 1.20.2 |', '|---|---|---|---|', ...rows].join('\n');
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
