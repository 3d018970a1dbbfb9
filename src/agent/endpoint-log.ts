/** What became of each endpoint and when, for `isthmus endpoint log`. */
import type { Change, ReadonlyTable } from '../table/table.ts';
import { addressText, type Endpoint } from './endpoint.ts';

export interface EndpointEvent {
  /** ISO 8601. */
  readonly time: string;
  readonly message: string;
}

/** An endpoint with its past; those that are gone are remembered for a while. */
export interface EndpointHistory {
  readonly id: number;
  readonly pod: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly gone: boolean;
  readonly events: readonly EndpointEvent[];
}

export interface EndpointLogOptions {
  readonly now?: () => Date;
  /** Events kept of one endpoint, the newest. */
  readonly events?: number;
  /** Endpoints remembered after they are gone. */
  readonly gone?: number;
}

/** Follows the table from now on; an agent that starts anew remembers nothing of before. */
export class EndpointLog {
  readonly #histories = new Map<string, { row: Endpoint; gone: boolean; events: EndpointEvent[] }>();
  readonly #options: Required<EndpointLogOptions>;
  #gone = 0;

  constructor(table: ReadonlyTable<Endpoint>, options: EndpointLogOptions = {}) {
    this.#options = { now: () => new Date(), events: 50, gone: 100, ...options };
    for (const key of table.keys()) {
      const row = table.get(key)!;
      this.#note({ key, before: undefined, after: row }, [`found as ${row.state}, ${addressesText(row)}`]);
    }
    table.subscribe(change => this.#note(change, describe(change)));
  }

  *values(): Generator<EndpointHistory> {
    for (const { row, gone, events } of this.#histories.values())
      yield { id: row.id, pod: podText(row), ipv4: row.ipv4 ?? '', ipv6: row.ipv6 ?? '', gone, events };
  }

  #note({ key, before, after }: Change<Endpoint>, messages: readonly string[]): void {
    const { now, events, gone } = this.#options;
    const found = this.#histories.get(key);
    const history = found ?? { row: (after ?? before)!, gone: false, events: [] };
    history.row = after ?? history.row;
    const time = now().toISOString();
    for (const message of messages) history.events.push({ time, message });
    history.events.splice(0, history.events.length - events);
    if (history.gone && after) this.#gone--;
    history.gone = after === undefined;
    if (history.gone) {
      // To the end: the one that has been gone longest is forgotten first.
      this.#histories.delete(key);
      this.#gone++;
    }
    this.#histories.set(key, history);
    if (this.#gone <= gone) return;
    for (const [old, each] of this.#histories)
      if (each.gone) {
        this.#histories.delete(old);
        this.#gone--;
        return;
      }
  }
}

/** What a change means to somebody who reads the log. */
function describe({ before, after }: Change<Endpoint>): string[] {
  if (!after) return ['removed: its address is free again'];
  const messages: string[] = [];
  if (!before) messages.push(`being made by the CNI plugin, ${addressesText(after)}`);
  if (after.ifindex !== 0 && after.ifindex !== before?.ifindex)
    messages.push(`device ${after.hostIfName} (${after.ifindex}) has its program`);
  if (after.identity !== undefined && after.identity !== before?.identity)
    messages.push(
      before?.identity === undefined
        ? `identity ${after.identity}`
        : `identity ${after.identity}, was ${before.identity}: the labels of its pod have changed`,
    );
  if (before && before.state !== after.state)
    messages.push(
      {
        creating: 'being made again',
        ready: 'ready: traffic is delivered',
        deleting: 'being removed: no traffic is delivered',
      }[after.state],
    );
  if (before && before.podName !== after.podName) messages.push(`is of pod ${podText(after)}`);
  return messages;
}

const addressesText = (row: Endpoint): string => `address ${addressText(row)}`;
const podText = (row: Endpoint): string => (row.podName ? `${row.namespace}/${row.podName}` : '');
