import type { PacketCount } from './packet-counts.ts';

const REASON = 'drop_no_nat_port';

/** Tells of packets that were dropped because every port to masquerade them with was taken. */
export class NatExhaustionNews {
  #told: number;

  /** What was counted before is not news: the counters outlive agents. */
  constructor(counts: Iterable<PacketCount>) {
    this.#told = dropped(counts);
  }

  /** A sentence when there are more than it was asked last. */
  of(counts: Iterable<PacketCount>): string | undefined {
    const now = dropped(counts);
    const fresh = now - this.#told;
    this.#told = now;
    if (fresh <= 0) return undefined;
    return (
      `${fresh} ${fresh === 1 ? 'packet' : 'packets'} to begin a flow dropped (${REASON}): pods and clients of this node have taken every port ` +
      'it can masquerade them with toward one address and port. Connections that are there go on; spread who begins ' +
      'them over more nodes, or give the destination more addresses'
    );
  }
}

function dropped(counts: Iterable<PacketCount>): number {
  let sum = 0;
  for (const { reason, packets } of counts) if (reason === REASON) sum += packets;
  return sum;
}
