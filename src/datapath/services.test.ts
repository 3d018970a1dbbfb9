/** What Kubernetes promises of services, packet by packet (BPF_PROG_TEST_RUN). */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { maglevTable } from '../loadbalancer/maglev.ts';
import { parse, parsePrefix } from './address.ts';
import { ethernet, icmp, ipv4, PROTO, read, TCP_FLAG, tcp, udp } from './packet.fixture.ts';
import {
  createPrograms,
  DEVICE,
  INTERNAL,
  IPV6,
  NEIGHBOUR,
  NODE,
  POD,
  type Programs,
  ports,
  REMOTE,
  REMOTE_NODE,
  VIP,
  WORLD,
} from './programs.fixture.ts';
import { TableMap } from './table-map.ts';
import { TC_ACT } from './test-run.ts';

const AFFINITY = 1;

describe('session affinity', () => {
  const ADDRESS = '10.96.7.1';
  const ID = 700;
  let programs: Programs;
  let send: Programs['send'];
  /** Backend pods of another node. */
  const backends = Array.from({ length: 8 }, (_, n) => ({
    id: 70 + n,
    address: `10.1.2.${70 + n}`,
    port: 8080,
  }));
  let port = 20_000;
  /** Where a new connection of a pod goes. */
  const connect = (make = tcp, to = ADDRESS): string =>
    read(send('from_pod', make(ports(POD, to, port++, 80))).out).to;
  const targets = (times: number): string[] => [...new Set(Array.from({ length: times }, () => connect()))];
  const member = (id: number): void =>
    programs.datapath.map('affinity_members').set({ service_id: ID, backend_id: id }, { pad: 0 });

  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    for (const { address } of backends) programs.ipcache(`${address}/32`, 65_792, REMOTE_NODE);
    for (const proto of [PROTO.tcp, PROTO.udp])
      programs.service(ID, ADDRESS, 80, proto, backends, { flags: AFFINITY, affinityTimeout: 10 });
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => {
    programs.forget();
    for (const { id } of backends) member(id);
  });

  it('every connection of a client goes to its first backend, TCP and UDP', () => {
    const [first, ...others] = targets(24);
    assert.deepEqual(others, []);
    assert.equal(connect(udp), first);
  });

  it('clients are spread', () => {
    const seen = new Set<string>();
    for (let time = 0; time < 24; time++) {
      programs.forget();
      seen.add(connect());
    }
    assert.ok(seen.size > 2, `${seen.size} backends`);
  });

  it('ends after the timeout, counted from the last connection', () => {
    type Row = { readonly backend_id: number; readonly used: number };
    const rows = programs.datapath.map<object, Row>('affinity');
    const first = connect();
    const [[key, row] = []] = [...rows.entries()];
    assert.ok(key && row);
    rows.set(key, { ...row, used: row.used - 9 });
    assert.equal(connect(), first);
    const renewed = rows.get(key)!;
    assert.ok(renewed.used >= row.used, 'renewed');
    const seen = new Set<string>();
    for (let time = 0; time < 24; time++) {
      rows.set(key, { ...renewed, used: renewed.used - 12 });
      seen.add(connect());
    }
    assert.ok(seen.size > 2, `${seen.size} backends`);
  });

  it('ends at once when the service loses the backend, though its row is still there', () => {
    const first = connect();
    const lost = backends.find(each => each.address === first)!;
    programs.datapath.map('affinity_members').delete({ service_id: ID, backend_id: lost.id });
    const seen = new Set<string>();
    for (let time = 0; time < 24; time++) {
      seen.add(connect());
      programs.datapath.map('affinity').delete([...programs.datapath.map('affinity').entries()][0]![0]);
    }
    assert.ok(seen.size > 2, `${seen.size} backends`);
  });

  it('of a client outside, by its address', () => {
    programs.endpoint(NODE, 0, 1);
    programs.service(ID + 1, '0.0.0.0', 30_700, PROTO.tcp, backends, {
      flags: AFFINITY | 2,
      affinityTimeout: 10,
    });
    for (const { id } of backends)
      programs.datapath.map('affinity_members').set({ service_id: ID + 1, backend_id: id }, { pad: 0 });
    const seen = new Set<string>();
    for (let time = 0; time < 3; time++) {
      const sent = read(send('from_netdev', tcp(ports(WORLD, NODE, port++, 30_700))).out);
      assert.equal(sent.from, INTERNAL, 'the backend is elsewhere');
      seen.add(sent.to);
    }
    assert.equal(seen.size, 1);
  });
});

describe('traffic policy Local', () => {
  const [LOCAL, TWO_SCOPES, NODEPORT] = [8, 16, 2];
  let programs: Programs;
  let send: Programs['send'];
  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    const here = [{ id: 80, address: POD, port: 8080 }];
    const there = [{ id: 81, address: REMOTE, port: 8080 }];
    const policy = NODEPORT | LOCAL | TWO_SCOPES;
    programs.service(800, '0.0.0.0', 30_080, PROTO.tcp, here, { flags: policy });
    programs.service(801, '0.0.0.0', 30_080, PROTO.tcp, [...here, ...there], { flags: NODEPORT, scope: 1 });
    programs.service(802, '0.0.0.0', 30_081, PROTO.tcp, [], { flags: policy });
    programs.service(803, '0.0.0.0', 30_081, PROTO.tcp, there, { flags: NODEPORT, scope: 1 });
    programs.service(804, '0.0.0.0', 30_082, PROTO.tcp, [], { flags: policy });
    programs.service(805, '0.0.0.0', 30_082, PROTO.tcp, [], { flags: NODEPORT, scope: 1 });
    programs.datapath.map('nodes').set({ addr: parse(NODE) }, { cluster_id: 1, flags: 3 });
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => programs.forget());

  it('from outside: a backend of this node, which sees the client', () => {
    for (let port = 1000; port < 1016; port++) {
      const { from, to, toPort, sound } = read(
        send('from_netdev', tcp(ports(WORLD, NODE, port, 30_080))).out,
      );
      assert.deepEqual([from, to, toPort, sound], [WORLD, POD, 8080, true]);
    }
  });

  it('from inside: backends of all nodes', () => {
    const seen = new Set<string>();
    for (let port = 1000; port < 1016; port++)
      seen.add(read(send('from_pod', tcp(ports(POD, NODE, port, 30_080))).out).to);
    assert.deepEqual([...seen].sort(), [POD, REMOTE]);
  });

  it('from inside to another node: for that node to answer', () => {
    programs.datapath.map('nodes').set({ addr: parse(REMOTE_NODE) }, { cluster_id: 1, flags: 2 });
    assert.equal(read(send('from_pod', tcp(ports(POD, REMOTE_NODE, 1000, 30_080))).out).to, REMOTE_NODE);
  });

  it('from outside, backends on other nodes only: dropped, so that the client is sent elsewhere', () => {
    const { verdict, reasons } = send('from_netdev', tcp(ports(WORLD, NODE, 1000, 30_081)));
    assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, ['DROP_NO_LOCAL_BACKEND']]);
    assert.equal(read(send('from_pod', tcp(ports(POD, NODE, 1000, 30_081))).out).to, REMOTE);
  });

  it('no backend anywhere: refused', () => {
    for (const [program, client] of [
      ['from_netdev', WORLD],
      ['from_pod', POD],
    ] as const) {
      const { verdict, reasons } = send(program, tcp(ports(client, NODE, 1000, 30_082)));
      assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_REFUSED_NO_BACKEND']], program);
    }
  });
});

describe('what no port of a service takes', () => {
  let programs: Programs;
  let send: Programs['send'];
  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    for (const address of [VIP, NODE])
      programs.datapath.map('service_addresses').set({ addr: parse(address) }, { pad: 0 });
    programs.datapath.map('nodes').set({ addr: parse(NODE) }, { cluster_id: 1, flags: 3 });
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => programs.forget());

  it('TCP is reset and UDP told, whoever asks', () => {
    for (const [program, client] of [
      ['from_pod', POD],
      ['from_netdev', WORLD],
      ['to_netdev', NODE],
    ] as const) {
      const reset = send(program, tcp(ports(client, VIP, 40_000, 9)));
      assert.deepEqual(
        [reset.verdict, reset.reasons],
        [TC_ACT.REDIRECT, ['REASON_REFUSED_NO_SERVICE']],
        program,
      );
      const answer = read(reset.out);
      assert.deepEqual([answer.from, answer.to, answer.flags], [VIP, client, TCP_FLAG.rst | TCP_FLAG.ack]);
      const told = send(program, udp(ports(client, VIP, 40_000, 9)));
      assert.deepEqual(
        [told.verdict, [...read(told.out).payload.subarray(0, 2)]],
        [TC_ACT.REDIRECT, [3, 3]],
        program,
      );
    }
  });

  it('a node whose address a load balancer was given keeps its other ports', () => {
    programs.datapath.map('service_addresses').set({ addr: parse(REMOTE_NODE) }, { pad: 0 });
    const packet = tcp(ports(NODE, REMOTE_NODE, 40_000, 10_250));
    const { verdict, out, reasons } = send('to_netdev', packet);
    assert.deepEqual([verdict, reasons, [...out]], [TC_ACT.OK, [], [...packet]]);
    programs.datapath.map('service_addresses').delete({ addr: parse(REMOTE_NODE) });
  });

  it('echo is answered for the service', () => {
    for (const [program, client] of [
      ['from_pod', POD],
      ['from_netdev', WORLD],
      ['to_netdev', NODE],
    ] as const) {
      const { verdict, out, reasons } = send(program, icmp(client, VIP, 8, 0, [0x12, 0x34, 0, 1, 9, 9]));
      assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_ECHO_ANSWERED']], program);
      const { from, to, payload, sound } = read(out);
      assert.deepEqual([from, to, sound], [VIP, client, true]);
      assert.deepEqual([payload[0], payload[1], ...payload.subarray(4)], [0, 0, 0x12, 0x34, 0, 1, 9, 9]);
      assert.deepEqual(
        [...out.subarray(0, 12)],
        [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
        'back where it came from',
      );
    }
  });

  it('anything else is dropped, and nothing is left over', () => {
    for (const packet of [
      icmp(POD, VIP, 0, 0, [0, 1, 0, 1]),
      icmp(POD, VIP, 13, 0, [0, 1, 0, 1]),
      ethernet(0x0800, ipv4({ from: POD, to: VIP, protocol: 47, payload: [0, 0, 0, 0] })),
      tcp({ ...ports(POD, VIP, 40_000, 9), flags: TCP_FLAG.rst }),
    ]) {
      const { verdict, reasons } = send('from_pod', packet);
      assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, ['REASON_REFUSED_NO_SERVICE']]);
    }
    assert.equal([...programs.datapath.map('conntrack').entries()].length, 0);
  });

  it('an address that is a node’s keeps the node’s own ports', () => {
    assert.equal(send('from_pod', tcp(ports(POD, NODE, 40_000, 22))).verdict, TC_ACT.OK);
    assert.equal(send('from_netdev', tcp(ports(WORLD, NODE, 40_000, 22))).verdict, TC_ACT.OK);
  });
});

describe('loadBalancerSourceRanges', () => {
  const [EXTERNAL, RANGES] = [4, 32];
  const ADDRESS = '203.0.113.80';
  let programs: Programs;
  let send: Programs['send'];
  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    programs.service(900, ADDRESS, 80, PROTO.tcp, [{ id: 90, address: NEIGHBOUR, port: 8080 }], {
      flags: EXTERNAL | RANGES,
    });
    programs.service(901, ADDRESS, 81, PROTO.tcp, [], { flags: EXTERNAL | RANGES });
  });
  after(() => programs?.[Symbol.dispose]());
  const allow = (...prefixes: string[]): void => {
    const map = programs.datapath.map<object, object>('source_ranges');
    for (const [key] of [...map.entries()]) map.delete(key);
    for (const service_id of [900, 901])
      for (const prefix of prefixes) {
        const { addr, length } = parsePrefix(prefix);
        map.set({ prefixlen: 32 + length, service_id, addr }, { pad: 0 });
      }
  };
  const DENIED = [TC_ACT.SHOT, ['DROP_SOURCE_NOT_IN_RANGES']];

  it('only clients of the ranges connect, from outside and from pods', () => {
    const ask = (program: 'from_pod' | 'from_netdev', client: string): unknown[] => {
      programs.forget();
      const { verdict, reasons } = send(program, tcp(ports(client, ADDRESS)));
      return [verdict, reasons];
    };
    const GOOD = [TC_ACT.REDIRECT, ['REASON_FORWARDED']];
    allow('198.51.100.0/24');
    assert.deepEqual([ask('from_netdev', WORLD), ask('from_pod', POD)], [GOOD, DENIED]);
    allow(`${POD}/32`, '10.9.0.0/16');
    assert.deepEqual([ask('from_netdev', WORLD), ask('from_pod', POD)], [DENIED, GOOD]);
    allow();
    assert.deepEqual([ask('from_netdev', WORLD), ask('from_pod', POD)], [DENIED, DENIED]);
    allow('0.0.0.0/1', '128.0.0.0/1');
    assert.deepEqual([ask('from_netdev', WORLD), ask('from_pod', POD)], [GOOD, GOOD]);
    allow('fd00::/8');
    assert.deepEqual(ask('from_pod', POD), DENIED, 'of the other family');
  });

  it('denied before it is told that there is no backend', () => {
    allow('192.0.2.0/24');
    const { verdict, reasons } = send('from_netdev', tcp(ports(WORLD, ADDRESS, 1000, 81)));
    assert.deepEqual([verdict, reasons], DENIED);
  });

  it('a connection that was allowed goes on', () => {
    programs.forget();
    allow('0.0.0.0/0');
    send('from_netdev', tcp(ports(WORLD, ADDRESS, 1000)));
    allow();
    const later = send('from_netdev', tcp({ ...ports(WORLD, ADDRESS, 1000), flags: TCP_FLAG.ack }));
    assert.equal(later.verdict, TC_ACT.REDIRECT);
  });
});

describe('Maglev', () => {
  const [ADDRESS, SIZE, SEED] = ['203.0.113.90', 251, 0x12345678];
  const [EXTERNAL, MAGLEV] = [4, 64];
  const backends = Array.from({ length: 7 }, (_, n) => ({
    id: 110 + n,
    address: `10.1.1.${110 + n}`,
    port: 8080,
  }));
  let programs: Programs;
  let send: Programs['send'];
  let tables: TableMap;
  before(async () => {
    programs = await createPrograms({ maglev_size: SIZE, maglev_seed: SEED });
    ({ send } = programs);
    for (const { address } of backends) programs.endpoint(address, DEVICE + 1000, 0);
    for (const proto of [PROTO.tcp, PROTO.udp])
      programs.service(1100, ADDRESS, 80, proto, backends, { flags: EXTERNAL | MAGLEV });
    programs.service(1101, ADDRESS, 81, PROTO.tcp, backends, {
      flags: EXTERNAL | MAGLEV | AFFINITY,
      affinityTimeout: 10,
    });
    tables = new TableMap(programs.datapath.map<number, number>('maglev'));
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => programs.forget());

  const table = (ids: readonly number[]): Uint32Array =>
    maglevTable(
      ids.map(id => `b${id}`),
      SIZE,
    ).map(at => ids[at]!);
  /** The entry of a flow, by the words of bpf/lib/maglev.h. */
  const entryOf = (words: readonly number[]): number => {
    let hash = BigInt(SEED);
    for (const word of words) {
      hash = ((hash ^ BigInt(word >>> 0)) * 0x9e3779b97f4a7c15n) & 0xffff_ffff_ffff_ffffn;
      hash ^= hash >> 29n;
    }
    return Number(hash >> 32n) % SIZE;
  };
  const wordsOf = (address: string): number[] => [...new Uint32Array(parse(address).buffer)];
  const target = (port: number, make = tcp, toPort = 80, from = WORLD): string =>
    read(send('from_netdev', make(ports(from, ADDRESS, port, toPort))).out).to;

  it('every packet that begins a flow goes where its hash says, on any node', async () => {
    const all = backends.map(each => each.id);
    await tables.set(1100, table(all));
    assert.deepEqual(tables.keys(), [1100]);
    const expected = table(all);
    const seen = new Set<string>();
    for (let port = 1000; port < 1200; port++)
      for (const [make, proto] of [
        [tcp, PROTO.tcp],
        [udp, PROTO.udp],
      ] as const) {
        const entry = entryOf([...wordsOf(WORLD), ...wordsOf(ADDRESS), (port << 16) | 80, proto]);
        const to = target(port, make);
        assert.equal(to, `10.1.1.${expected[entry]}`);
        seen.add(to);
      }
    assert.equal(seen.size, backends.length);
  });

  it('a table that is exchanged moves few flows; a backend it still names but that is gone is passed by', async () => {
    const all = backends.map(each => each.id);
    await tables.set(1100, table(all));
    const before = Array.from({ length: 200 }, (_, n) => target(2000 + n));
    programs.forget();
    await tables.set(1100, table(all.slice(1)));
    const after = Array.from({ length: 200 }, (_, n) => target(2000 + n));
    const moved = before.filter((to, n) => to !== '10.1.1.110' && to !== after[n]).length;
    assert.ok(!after.includes('10.1.1.110') && moved < 20, `${moved} of 200 moved`);
    programs.datapath.map('backends').delete({ backend_id: 111 });
    programs.forget();
    const later = Array.from({ length: 200 }, (_, n) => target(2000 + n));
    assert.ok(later.every((to, n) => after[n] === '10.1.1.111' || to === after[n]));
    programs.service(1100, ADDRESS, 80, PROTO.tcp, backends, { flags: EXTERNAL | MAGLEV });
  });

  it('with session affinity the client’s address alone decides', async () => {
    const all = backends.map(each => each.id);
    await tables.set(1101, table(all));
    for (let n = 0; n < 30; n++) {
      const client = `198.51.100.${n + 1}`;
      const expected = `10.1.1.${table(all)[entryOf(wordsOf(client))]}`;
      for (const port of [1000, 1001]) {
        programs.forget();
        assert.equal(target(port, tcp, 81, client), expected);
      }
    }
  });

  it('without a table, or with one of another size, any backend', async () => {
    await tables.delete(1100);
    await tables.delete(1100);
    assert.match(target(3000), /^10\.1\.1\.11\d$/);
    await tables.set(1100, Uint32Array.of(110));
    for (let port = 3000; port < 3020; port++) assert.match(target(port), /^10\.1\.1\.11\d$/);
  });
});

describe('a TCP connection whose backend has left the service', () => {
  const ADDRESS = '10.96.12.1';
  const LATE = '10.1.2.120';
  let programs: Programs;
  let send: Programs['send'];
  const there = (): void => programs.ipcache(`${LATE}/32`, 65_792, REMOTE_NODE);
  const ipcache = () => programs.datapath.map<object, object>('ipcache');
  const gone = (): boolean => ipcache().delete({ prefixlen: 32 + 128, cluster_id: 0, addr: parse(LATE) });
  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    const { addr, length } = parsePrefix('10.1.2.0/24');
    ipcache().set(
      { prefixlen: 32 + length, cluster_id: 0, addr },
      { identity: 3, tunnel: parse(REMOTE_NODE), encrypt_key: 0, flags: 1 },
    );
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => {
    programs.forget();
    there();
    programs.service(1200, ADDRESS, 80, PROTO.tcp, [{ id: 120, address: LATE, port: 8080 }]);
    send('from_pod', tcp(ports(POD, ADDRESS, 5000)));
  });
  const next = () =>
    send('from_pod', tcp({ ...ports(POD, ADDRESS, 5000), flags: TCP_FLAG.ack, sequence: 9, acknowledge: 7 }));
  const leave = (): void => {
    programs.service(1200, ADDRESS, 80, PROTO.tcp, []);
    programs.datapath.map('backends').delete({ backend_id: 120 });
  };

  it('goes on while the pod is there: it terminates, is not ready, or lost its label', () => {
    leave();
    assert.equal(read(next().out).to, LATE);
  });

  it('is reset when the pod is gone', () => {
    leave();
    gone();
    const { verdict, reasons, out } = next();
    assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_RESET_BACKEND_GONE']]);
    const { from, to, flags, sequence, sound } = read(out);
    assert.deepEqual(
      [from, to, flags & TCP_FLAG.rst, sequence, sound],
      [ADDRESS, POD, TCP_FLAG.rst, 7, true],
    );
  });

  it('is not reset while the service still has it: the pod may not be known here yet', () => {
    gone();
    assert.equal(read(next().out).to, LATE);
  });

  it('is not reset where the backend is no pod', () => {
    leave();
    gone();
    ipcache().delete({ prefixlen: 32 + 96 + 24, cluster_id: 0, addr: parse('10.1.2.0') });
    assert.equal(read(next().out).to, LATE);
  });
});

describe('the same of IPv6', () => {
  const { POD, NEIGHBOUR, NODE, WORLD, VIP } = IPV6;
  const LATE = 'fd00:1:2::120';
  let programs: Programs;
  let send: Programs['send'];
  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    programs.datapath.map('service_addresses').set({ addr: parse(VIP) }, { pad: 0 });
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => programs.forget());

  it('what no port of a service takes is refused, echo is answered', () => {
    for (const [program, client] of [
      ['from_pod', POD],
      ['from_netdev', WORLD],
      ['to_netdev', NODE],
    ] as const) {
      const reset = send(program, tcp(ports(client, VIP, 40_000, 9)));
      assert.deepEqual(
        [reset.verdict, reset.reasons],
        [TC_ACT.REDIRECT, ['REASON_REFUSED_NO_SERVICE']],
        program,
      );
      const answer = read(reset.out);
      assert.deepEqual(
        [answer.from, answer.to, answer.flags & TCP_FLAG.rst, answer.sound],
        [VIP, client, TCP_FLAG.rst, true],
      );
      const echo = send(program, icmp(client, VIP, 128, 0, [0x12, 0x34, 0, 1, 9, 9]));
      assert.deepEqual([echo.verdict, echo.reasons], [TC_ACT.REDIRECT, ['REASON_ECHO_ANSWERED']], program);
      const { from, to, payload, sound } = read(echo.out);
      assert.deepEqual(
        [from, to, sound, payload[0], ...payload.subarray(4)],
        [VIP, client, true, 129, 0x12, 0x34, 0, 1, 9, 9],
      );
    }
  });

  it('session affinity keeps a client’s backend', () => {
    const backends = Array.from({ length: 6 }, (_, n) => ({
      id: 1400 + n,
      address: `fd00:1:2::${70 + n}`,
      port: 8080,
    }));
    for (const { id, address } of backends) {
      programs.ipcache(`${address}/128`, 65_792, REMOTE_NODE);
      programs.datapath.map('affinity_members').set({ service_id: 1400, backend_id: id }, { pad: 0 });
    }
    programs.service(1400, VIP, 82, PROTO.tcp, backends, { flags: AFFINITY, affinityTimeout: 10 });
    const seen = Array.from(
      { length: 16 },
      (_, n) => read(send('from_pod', tcp(ports(POD, VIP, 2000 + n, 82))).out).to,
    );
    assert.equal(new Set(seen).size, 1);
  });

  it('source ranges let in whom they name', () => {
    programs.service(1401, VIP, 83, PROTO.tcp, [{ id: 1410, address: NEIGHBOUR, port: 8080 }], {
      flags: 4 | 32,
    });
    const { addr, length } = parsePrefix(`${WORLD}/128`);
    programs.datapath
      .map('source_ranges')
      .set({ prefixlen: 32 + length, service_id: 1401, addr }, { pad: 0 });
    assert.equal(send('from_netdev', tcp(ports(WORLD, VIP, 1000, 83))).verdict, TC_ACT.REDIRECT);
    assert.deepEqual(send('from_pod', tcp(ports(POD, VIP, 1000, 83))).reasons, ['DROP_SOURCE_NOT_IN_RANGES']);
    // With FRONTEND_SOURCE_RANGES_DENY they keep out whom they name.
    programs.forget();
    programs.service(1401, VIP, 83, PROTO.tcp, [{ id: 1410, address: NEIGHBOUR, port: 8080 }], {
      flags: 4 | 32 | 256,
    });
    assert.deepEqual(send('from_netdev', tcp(ports(WORLD, VIP, 1000, 83))).reasons, [
      'DROP_SOURCE_NOT_IN_RANGES',
    ]);
    assert.equal(send('from_pod', tcp(ports(POD, VIP, 1000, 83))).verdict, TC_ACT.REDIRECT);
  });

  it('a connection to a pod that is no more is reset', () => {
    programs.service(1402, VIP, 84, PROTO.tcp, [{ id: 1420, address: LATE, port: 8080 }]);
    programs.ipcache(`${LATE}/128`, 65_792, REMOTE_NODE);
    assert.equal(read(send('from_pod', tcp(ports(POD, VIP, 5000, 84))).out).to, LATE);
    const { addr, length } = parsePrefix('fd00:1:2::/64');
    const ipcache = programs.datapath.map<object, object>('ipcache');
    ipcache.set(
      { prefixlen: 32 + length, cluster_id: 0, addr },
      { identity: 3, tunnel: parse(REMOTE_NODE), encrypt_key: 0, flags: 1 },
    );
    programs.service(1402, VIP, 84, PROTO.tcp, []);
    programs.datapath.map('backends').delete({ backend_id: 1420 });
    ipcache.delete({ prefixlen: 32 + 128, cluster_id: 0, addr: parse(LATE) });
    const { reasons, out } = send(
      'from_pod',
      tcp({ ...ports(POD, VIP, 5000, 84), flags: TCP_FLAG.ack, acknowledge: 7 }),
    );
    assert.deepEqual(reasons, ['REASON_RESET_BACKEND_GONE']);
    const { from, flags, sequence, sound } = read(out);
    assert.deepEqual([from, flags & TCP_FLAG.rst, sequence, sound], [VIP, TCP_FLAG.rst, 7, true]);
  });
});
