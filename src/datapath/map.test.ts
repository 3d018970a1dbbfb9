import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildBpf } from '../../deploy/build.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import { format, parse } from './address.ts';
import { type Btf, parseBtf, parseElf } from './btf.ts';
import { config } from './config.fixture.ts';
import { codecOf, type Layout } from './layout.ts';
import { type MapSpec, mapSpecs } from './map-spec.ts';
import { mapTarget } from './map-target.ts';
import { type LoadOptions, loadDatapath } from './object.ts';
import { openPinnedMap, pinnedMapNames } from './pinned-map.ts';

let objectPath: string;
let btf: Btf;
let specs: readonly MapSpec[];
let folder: string;
before(async () => {
  objectPath = await buildBpf();
  btf = parseBtf(parseElf(readFileSync(objectPath)).section('.BTF')!.bytes);
  specs = mapSpecs(btf);
  folder = mkdtempSync(join(tmpdir(), 'isthmus-maps-'));
  execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
});
after(() => {
  execFileSync('umount', ['-l', folder]);
  rmSync(folder, { recursive: true });
});

const load = (name: string, sizes: LoadOptions['sizes'] = {}) =>
  loadDatapath({ objectPath, bpffs: join(folder, name), config, sizes });

describe('layouts from the object', () => {
  it('random rows of every map come back as they went', () => {
    for (const spec of specs)
      for (const layout of [spec.key, spec.value])
        for (let time = 0; time < 20; time++) {
          const codec = codecOf<unknown>(layout);
          const row = random(layout);
          const bytes = new Uint8Array(layout.size + 8);
          codec.encode(row, bytes, 4);
          assert.deepEqual(codec.decode(bytes, 4), row, spec.name);
          assert.deepEqual(
            [...bytes.subarray(0, 4), ...bytes.subarray(-4)],
            new Array(8).fill(0),
            'within its size',
          );
        }
  });

  it('network order where the type says so, the machine’s elsewhere', () => {
    const frontend = specs.find(spec => spec.name === 'frontends')!;
    const key = new Uint8Array(frontend.key.size);
    codecOf(frontend.key).encode({ addr: parse('10.96.0.1'), port: 0x1234, proto: 6, scope: 1 }, key, 0);
    assert.equal(Buffer.from(key).toString('hex'), `${'00'.repeat(10)}ffff0a600001${'1234'}0601`);
    const slot = specs.find(spec => spec.name === 'slots')!;
    const bytes = new Uint8Array(slot.key.size);
    codecOf(slot.key).encode({ service_id: 1, slot: 0x01020304 }, bytes, 0);
    assert.equal(Buffer.from(bytes).toString('hex'), '0100000004030201');
  });

  it('a value that does not fit names its field', () => {
    const frontend = codecOf<unknown>(specs.find(spec => spec.name === 'frontends')!.key);
    const into = new Uint8Array(frontend.size);
    const row = { addr: parse('10.96.0.1'), port: 80, proto: 6, scope: 0 };
    for (const [wrong, message] of [
      [{ port: 70_000 }, /port: expected an integer from 0 to 65535, found 70000/],
      [{ port: undefined }, /port: expected an integer/],
      [{ proto: 1.5 }, /proto/],
      [{ addr: new Uint8Array(4) }, /addr: expected 16 bytes, found 4/],
    ] as const)
      assert.throws(() => frontend.encode({ ...row, ...wrong }, into, 0), message);
  });

  it('refuses what is no object, and an object without BTF', () => {
    assert.throws(() => parseElf(new Uint8Array(100)), /not a little-endian ELF64/);
    assert.throws(() => parseBtf(new Uint8Array(100)), /no BTF/);
  });
});

describe('live maps', () => {
  it('set, get, delete, walk', () => {
    using datapath = load('walk');
    const slots = datapath.map<{ service_id: number; slot: number }, { backend_id: number }>('slots');
    assert.equal(slots.get({ service_id: 1, slot: 0 }), undefined);
    slots.set({ service_id: 1, slot: 0 }, { backend_id: 7 });
    assert.deepEqual(slots.get({ service_id: 1, slot: 0 }), { backend_id: 7 });
    assert.equal(slots.delete({ service_id: 1, slot: 0 }), true);
    assert.equal(slots.delete({ service_id: 1, slot: 0 }), false);
    const many = Array.from(
      { length: 10_000 },
      (_, slot) => [{ service_id: 1, slot }, { backend_id: slot }] as const,
    );
    slots.updateBatch(many);
    const seen = new Map([...slots.entries()].map(([key, value]) => [key.slot, value.backend_id]));
    assert.equal(seen.size, 10_000);
    for (const [slot, backend] of seen) assert.equal(slot, backend);
  });

  it('walks prefixes', () => {
    using datapath = load('prefixes');
    type Key = { prefixlen: number; cluster_id: number; addr: Uint8Array };
    const ipcache = datapath.map<Key, { identity: number }>('ipcache');
    const value = { identity: 9, tunnel: new Uint8Array(16), encrypt_key: 0, flags: 0 };
    ipcache.updateBatch(
      Array.from({ length: 300 }, (_, n) => [
        { prefixlen: 160, cluster_id: 0, addr: parse(`10.0.${n >> 8}.${n & 255}`) },
        value,
      ]),
    );
    const addresses = new Set([...ipcache.entries()].map(([key]) => format(key.addr)));
    assert.equal(addresses.size, 300);
  });

  it('a full map says how far it came', () => {
    using datapath = load('full', { slots: 8 });
    const slots = datapath.map<{ service_id: number; slot: number }, { backend_id: number }>('slots');
    const rows = Array.from(
      { length: 20 },
      (_, slot) => [{ service_id: 1, slot }, { backend_id: 1 }] as const,
    );
    assert.throws(() => slots.updateBatch(rows), /map slots: update of 20 rows stopped after 8: E2BIG/);
  });

  it('a reconciler makes it equal to a table, and reports only the rows that do not fit', async () => {
    using datapath = load('reconciled', { backends: 4 });
    type Key = { backend_id: number };
    type Value = { addr: Uint8Array; port: number; proto: number; flags: number; cluster_id: number };
    const map = datapath.map<Key, Value>('backends');
    const value: Value = { addr: parse('10.0.0.1'), port: 80, proto: 6, flags: 0, cluster_id: 0 };
    map.set({ backend_id: 99 }, value);
    const table = new Table<{ id: number; port: number }>({ name: 'backends', keyOf: row => String(row.id) });
    for (let id = 1; id <= 6; id++) table.upsert({ id, port: id === 2 ? 99_999 : 80 });
    table.markSynced();
    const stop = new AbortController();
    const failed = new Set<string>();
    const reconciler = new Reconciler(
      table,
      mapTarget(map, {
        nameOf: key => String(key.backend_id),
        keyOf: name => ({ backend_id: Number(name) }),
        toRow: row => ({ key: { backend_id: row.id }, value: { ...value, port: row.port } }),
      }),
      { signal: stop.signal, onError: key => void failed.add(key), backoff: { first: 60_000, max: 60_000 } },
    );
    await reconciler.whenSettled();
    assert.ok(failed.has('2'), 'the row with a wrong port');
    assert.equal(map.get({ backend_id: 99 }), undefined, 'what is not desired is gone');
    assert.equal(map.get({ backend_id: 1 })?.port, 80);
    stop.abort();
  });

  it('what is pinned is adopted with its rows; another layout stands beside it until it is unpinned', () => {
    const key = { service_id: 3, slot: 0 };
    {
      using datapath = load('adopted');
      datapath.map('slots').set(key, { backend_id: 5 });
    }
    using again = load('adopted');
    assert.deepEqual(again.map('slots').get(key), { backend_id: 5 });
    assert.deepEqual(again.staleMaps(), []);
    using looked = openPinnedMap<typeof key, { backend_id: number }>(join(folder, 'adopted'), 'slots');
    assert.deepEqual([...looked!.rows.entries()], [[key, { backend_id: 5 }]]);
    assert.equal(openPinnedMap(join(folder, 'adopted'), 'slot'), undefined);

    using larger = load('adopted', { slots: 1000 });
    assert.equal(larger.map('slots').get(key), undefined);
    assert.equal(larger.staleMaps().length, 1);
    assert.match(larger.staleMaps()[0]!, /^slots_/);
    larger.unpinStaleMaps();
    assert.deepEqual(larger.staleMaps(), []);
  });

  it('every pinned map is read by the types the kernel has of it', () => {
    using datapath = load('looked-at');
    const bpffs = join(folder, 'looked-at');
    for (const spec of mapSpecs(btf)) {
      using looked = openPinnedMap(bpffs, spec.name);
      const { key, value, type, maxEntries } = looked!.rows.spec;
      assert.equal(type, spec.type, spec.name);
      if (looked!.walkable || type === 24) assert.deepEqual([key, value], [spec.key, spec.value], spec.name);
      if (spec.maxEntries) assert.equal(maxEntries, spec.maxEntries, spec.name);
    }
    assert.deepEqual(
      pinnedMapNames(bpffs),
      mapSpecs(btf)
        .map(each => each.name)
        .sort(),
    );
    using metrics = openPinnedMap(bpffs, 'metrics');
    assert.deepEqual([...metrics!.names('reason')], [...datapath.reasons]);
    using sockets = openPinnedMap(bpffs, 'socket_services');
    assert.equal(sockets!.walkable, false);
  });

  it('an object that can not be loaded says why', () => {
    assert.throws(
      () => loadDatapath({ objectPath: process.execPath, bpffs: join(folder, 'wrong'), config }),
      /has no BTF|\.maps|ELF64/,
    );
    assert.throws(() => load('no-room', { conntrack: 0x7fffffff }), /load .*isthmus\.bpf\.o: E.*conntrack/s);
  });
});

/** A value of a layout with every bit possible. */
function random(layout: Layout): unknown {
  const bytes = (length: number): Uint8Array =>
    Uint8Array.from({ length }, () => Math.floor(Math.random() * 256));
  switch (layout.kind) {
    case 'bytes':
      return bytes(layout.size);
    case 'array':
      return Array.from({ length: layout.length }, () => random(layout.element));
    case 'struct':
      return Object.fromEntries(layout.fields.map(field => [field.name, random(field.layout)]));
    case 'int': {
      const unsigned = bytes(layout.size).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
      const value = layout.signed ? BigInt.asIntN(layout.size * 8, unsigned) : unsigned;
      return layout.size === 8 ? value : Number(value);
    }
  }
}
