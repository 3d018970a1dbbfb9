import type { Bed } from './bed.ts';
import type { Cost } from './client.ts';

/** What one client saw of one fault. */
export interface Row {
  readonly what: string;
  readonly client: string;
  readonly cost: Cost;
  /** Seconds after the fault until which requests may fail. */
  readonly limit: number;
  /** Not one request may be refused or broken off. */
  readonly strict?: boolean;
  /** Packets whose sender a node did not know yet; where it was counted there must be none. */
  readonly unknown?: number;
  readonly note: string;
}

export interface Scenario {
  readonly name: string;
  /** It is about what agents that read the other cluster themselves do: behind a mirror they do not. */
  readonly withoutMirror?: boolean;
  run(bed: Bed): Promise<Row[]>;
}

export const isKept = ({ cost, limit, strict, unknown }: Row): boolean =>
  cost.until <= limit && !(strict && cost.refused > 0) && !unknown;
