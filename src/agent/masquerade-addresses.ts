/**
 * The BPF map `masquerade_addresses`: under which address pods leave by an uplink. Where a node has several uplinks,
 * each network knows the way back to the node's address in it, and need not know one to the others.
 */
import { isIP } from 'node:net';
import { parse } from '../datapath/address.ts';
import { familyOf } from '../datapath/netlink-address.ts';
import { AF_INET, AF_INET6 } from '../datapath/socket-numbers.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { DeviceAddress } from './host-addresses.ts';

export interface MasqueradeAddress {
  readonly ifindex: number;
  readonly family: 4 | 6;
  readonly address: string;
}

/** The row of bpf/types.h. */
export interface MasqueradeMapRow {
  readonly key: { readonly ifindex: number; readonly family: number };
  readonly value: { readonly addr: Uint8Array };
}

export interface MasqueradeInputs {
  /** With the index `device`, of ifindexes. */
  readonly addresses: ReadonlyTable<DeviceAddress>;
  readonly uplinks: readonly number[];
  /** The node's own, which are preferred on the device that has them. */
  readonly nodeAddresses: readonly string[];
}

/** Of each uplink and family the node's own address, or else the first that is valid beyond the link. */
export function deriveMasqueradeAddresses(inputs: MasqueradeInputs): ReadonlyTable<MasqueradeAddress> {
  const { addresses, nodeAddresses } = inputs;
  const uplinks = new Set(inputs.uplinks.map(String));
  return derive<MasqueradeAddress>({
    name: 'masquerade-addresses',
    keyOf: row => `${row.ifindex}/${row.family}`,
    inputs: [input(addresses, row => [String(row.ifindex)])],
    compute: device => {
      if (!uplinks.has(device)) return [];
      const candidates = [...addresses.by('device', device)]
        .filter(each => each.global)
        .sort((a, b) => a.place - b.place);
      return ([4, 6] as const).flatMap(family => {
        const ofFamily = candidates.filter(each => isIP(each.address) === family);
        const chosen = ofFamily.find(each => nodeAddresses.includes(each.address)) ?? ofFamily[0];
        return chosen ? [{ ifindex: chosen.ifindex, family, address: chosen.address }] : [];
      });
    },
  });
}

export const masqueradeKeyName = ({ ifindex, family }: MasqueradeMapRow['key']): string =>
  `${ifindex}/${family === AF_INET6 ? 6 : 4}`;

export function masqueradeMapKey(name: string): MasqueradeMapRow['key'] {
  const [ifindex, family] = name.split('/').map(Number);
  return { ifindex: ifindex!, family: family === 6 ? AF_INET6 : AF_INET };
}

export const masqueradeMapRow = ({ ifindex, address }: MasqueradeAddress): MasqueradeMapRow => ({
  key: { ifindex, family: familyOf(address) },
  value: { addr: parse(address) },
});
