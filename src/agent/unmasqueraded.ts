import { formatPrefix, parsePrefix } from '../datapath/address.ts';
import type { BpfMap } from '../datapath/map.ts';
import { mapTarget } from '../datapath/map-target.ts';
import { Reconciler, type ReconcilerOptions } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import type { AgentConfig } from './config.ts';

/** The row of bpf/types.h. */
export interface PrefixMapRow {
  readonly key: { readonly prefixlen: number; readonly addr: Uint8Array };
  readonly value: { readonly flags: number };
}

/** Destinations that see a pod's own address although they are no pods: by setting, or all of them. */
export function unmasqueradedPrefixes(
  config: Pick<
    AgentConfig,
    'ipv4-native-routing-cidr' | 'non-masquerade-cidrs' | 'enable-ipv4-masquerade' | 'enable-ipv6-masquerade'
  >,
): readonly string[] {
  return [
    ...config['ipv4-native-routing-cidr'],
    ...config['non-masquerade-cidrs'],
    ...(config['enable-ipv4-masquerade'] ? [] : ['0.0.0.0/0']),
    // All of IPv6 but the part that stands for IPv4 in the maps: NAT64's (RFC 6052), and from 2000:: on.
    ...(config['enable-ipv6-masquerade'] ? [] : ['64:ff9b::/32', '2000::/3', '4000::/2', '8000::/1']),
  ];
}

/** Keeps the map equal to the list, also where an earlier agent had another. */
export function reconcileUnmasqueraded(
  prefixes: readonly string[],
  map: BpfMap<PrefixMapRow['key'], PrefixMapRow['value']>,
  options: ReconcilerOptions<string>,
): Reconciler<string> {
  const table = new Table<string>({
    name: 'unmasqueraded',
    keyOf: prefix => formatPrefix(parsePrefix(prefix)),
  });
  for (const prefix of prefixes) table.upsert(prefix);
  table.markSynced();
  const target = mapTarget(map, {
    nameOf: ({ prefixlen, addr }) => formatPrefix({ addr, length: prefixlen }),
    keyOf,
    toRow: (prefix: string) => ({ key: keyOf(prefix), value: { flags: 0 } }),
  });
  return new Reconciler(table, target, options);
}

function keyOf(prefix: string): PrefixMapRow['key'] {
  const { addr, length } = parsePrefix(prefix);
  return { prefixlen: length, addr };
}
