import type { Datapath } from '../datapath/object.ts';

/** How many packets met one fate. */
export interface PacketCount {
  /** Name in bpf/lib/drop.h, lower case without its prefix, e.g. `drop_unknown_sender`. */
  readonly reason: string;
  readonly direction: 'none' | 'ingress' | 'egress' | 'other';
  readonly packets: number;
  readonly bytes: number;
}

const directions = ['none', 'ingress', 'egress', 'other'] as const;

/** Reads the per-CPU counters of all programs. */
export function packetCounts(datapath: Datapath): PacketCount[] {
  const map = datapath.map<number, { packets: bigint; bytes: bigint }>('metrics');
  const counts: PacketCount[] = [];
  for (const [number, name] of datapath.reasons)
    for (const [at, direction] of directions.entries()) {
      const index = number * directions.length + at;
      if (index >= map.maxEntries) continue;
      const cpus = map.getPerCpu(index);
      const packets = cpus.reduce((sum, each) => sum + Number(each.packets), 0);
      if (packets === 0) continue;
      const bytes = cpus.reduce((sum, each) => sum + Number(each.bytes), 0);
      counts.push({ reason: name.toLowerCase().replace(/^reason_/, ''), direction, packets, bytes });
    }
  return counts;
}
