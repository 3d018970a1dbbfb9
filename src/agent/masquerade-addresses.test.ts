import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format } from '../datapath/address.ts';
import { Table } from '../table/table.ts';
import type { DeviceAddress } from './host-addresses.ts';
import {
  deriveMasqueradeAddresses,
  masqueradeKeyName,
  masqueradeMapKey,
  masqueradeMapRow,
} from './masquerade-addresses.ts';

const UPLINK = 2;
const SECOND = 3;
const OTHER = 4;

test('pods leave each uplink under an address of that uplink, the node’s own where it is there', async () => {
  const addresses = new Table<DeviceAddress>({
    name: 'host-addresses',
    keyOf: row => row.address,
    indexes: { device: row => [String(row.ifindex)] },
  });
  const rows = deriveMasqueradeAddresses({
    addresses,
    uplinks: [UPLINK, SECOND],
    nodeAddresses: ['10.0.0.2', '2001:db8::2'],
  });
  const add = (ifindex: number, place: number, address: string, global = true): void =>
    void addresses.upsert({ ifindex, place, address, global });
  const now = async (): Promise<Record<string, string>> => {
    await rows.whenSynced();
    await new Promise(setImmediate);
    return Object.fromEntries(Array.from(rows.keys(), key => [key, rows.get(key)!.address]));
  };
  add(UPLINK, 0, '10.0.0.1');
  add(UPLINK, 1, '10.0.0.2');
  add(UPLINK, 2, '2001:db8::2');
  add(SECOND, 3, '169.254.0.9', false);
  add(SECOND, 4, '192.0.2.9');
  add(SECOND, 5, '192.0.2.7');
  add(OTHER, 6, '172.16.0.1');
  addresses.markSynced();
  assert.deepEqual(await now(), { '2/4': '10.0.0.2', '2/6': '2001:db8::2', '3/4': '192.0.2.9' });

  addresses.delete('192.0.2.9');
  assert.deepEqual(await now(), { '2/4': '10.0.0.2', '2/6': '2001:db8::2', '3/4': '192.0.2.7' });

  addresses.delete('192.0.2.7');
  assert.deepEqual(await now(), { '2/4': '10.0.0.2', '2/6': '2001:db8::2' });
});

test('a row of the map and its name say the same', () => {
  for (const [family, address] of [
    [4, '192.0.2.9'],
    [6, '2001:db8::9'],
  ] as const) {
    const row = masqueradeMapRow({ ifindex: 7, family, address });
    assert.equal(format(row.value.addr), address);
    assert.equal(masqueradeKeyName(row.key), `7/${family}`);
    assert.deepEqual(masqueradeMapKey(`7/${family}`), row.key);
  }
});
