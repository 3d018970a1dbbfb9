/** How full a map is. */
export interface MapFill {
  readonly map: string;
  readonly rows: number;
  readonly maxEntries: number;
}

/** From here on people are told: time to act, while everything still fits. */
const WARN = 0.9;

/** The value of the chart that sizes a map; the others have a size that no cluster of theirs should reach. */
const options: Readonly<Record<string, string>> = {
  conntrack: 'bpf.ctTcpMax',
  nat: 'bpf.natMax',
  frontends: 'bpf.lbMapMax',
  slots: 'bpf.lbMapMax',
  backends: 'bpf.lbMapMax',
  service_addresses: 'bpf.lbMapMax',
};
const overflow: Readonly<Record<string, string>> = {
  conntrack: 'beyond that the flows unused longest are forgotten',
  nat: 'beyond that the flows unused longest are forgotten',
};

/** 0 empty, 1 full. */
export const pressureOf = ({ rows, maxEntries }: MapFill): number => (maxEntries ? rows / maxEntries : 0);

/** One sentence for each map that is nearly full. Pure. */
export function pressureWarnings(fills: Iterable<MapFill>): string[] {
  return [...fills].flatMap(fill => {
    if (pressureOf(fill) < WARN) return [];
    const { map, rows, maxEntries } = fill;
    const percent = Math.floor(pressureOf(fill) * 100);
    const end = overflow[map] ?? 'beyond that new rows are refused, and those that are there stay';
    const advice = options[map] ? `raise ${options[map]}` : 'report this: its size is fixed';
    return [`map ${map} is ${percent} % full (${rows} of ${maxEntries} rows): ${advice}; ${end}`];
  });
}

/** Below this a map has room again; between the two nothing is said, so that one at the edge does not fill the log. */
const CALM = 0.8;

/** What is new since it was asked last: each map is named once when it is nearly full. Holds which have been. */
export class PressureNews {
  readonly #told = new Set<string>();

  of(fills: Iterable<MapFill>): string[] {
    const fresh: MapFill[] = [];
    for (const fill of fills) {
      const pressure = pressureOf(fill);
      if (pressure < CALM) this.#told.delete(fill.map);
      if (pressure < WARN || this.#told.has(fill.map)) continue;
      this.#told.add(fill.map);
      fresh.push(fill);
    }
    return pressureWarnings(fresh);
  }
}
