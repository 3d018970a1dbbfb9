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
  readonly note: string;
}

export interface Scenario {
  readonly name: string;
  run(bed: Bed): Promise<Row[]>;
}

export const isKept = ({ cost, limit, strict }: Row): boolean =>
  cost.until <= limit && !(strict && cost.refused > 0);
