/**
 * Names of the flags in map rows, for people: the macros of bpf/types.h in lower case. A test holds them against
 * that file; a bit that has no name yet is shown as a number.
 */
const NAMES = {
  ENDPOINT: { HOST: 1 },
  NODE: { LOCAL: 1, OWN_CLUSTER: 2 },
  FRONTEND: {
    AFFINITY: 1,
    NODEPORT: 2,
    EXTERNAL: 4,
    LOCAL: 8,
    TWO_SCOPES: 16,
    SOURCE_RANGES: 32,
    MAGLEV: 64,
    DSR: 128,
    SOURCE_RANGES_DENY: 256,
  },
  CONNTRACK: {
    INITIATOR_HIGH: 1,
    NAT: 2,
    SYN: 4,
    REPLIED: 8,
    FIN_INITIATOR: 16,
    FIN_RESPONDER: 32,
    RST: 64,
    DSR: 128,
  },
  NAT: { REPLY: 1, SERVICE: 2, SOURCE: 4, FIN: 8, CLOSING: 16, DSR: 32 },
} as const;

export type FlagSet = keyof typeof NAMES;

/** Macro name → bit. */
export const flagBits = (set: FlagSet): Readonly<Record<string, number>> => NAMES[set];

/** 'nodeport two-scopes 0x400' for bits that are set. */
export function flagNames(set: FlagSet, bits: number): string {
  const names: string[] = [];
  let rest = bits;
  for (const [name, bit] of Object.entries(NAMES[set]))
    if (bits & bit) {
      names.push(name.toLowerCase().replaceAll('_', '-'));
      rest &= ~bit;
    }
  return [...names, ...(rest ? [`0x${rest.toString(16)}`] : [])].join(' ');
}
