/** What Kubernetes promises of services, packet by packet (BPF_PROG_TEST_RUN). */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { PROTO, read, tcp, udp } from './packet.fixture.ts';
import {
  createPrograms,
  INTERNAL,
  NODE,
  POD,
  type Programs,
  ports,
  REMOTE_NODE,
  WORLD,
} from './programs.fixture.ts';

const AFFINITY = 1;

describe('session affinity', () => {
  const VIP = '10.96.7.1';
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
  const connect = (make = tcp, to = VIP): string =>
    read(send('from_pod', make(ports(POD, to, port++, 80))).out).to;
  const targets = (times: number): string[] => [...new Set(Array.from({ length: times }, () => connect()))];
  const member = (id: number): void =>
    programs.datapath.map('affinity_members').set({ service_id: ID, backend_id: id }, { pad: 0 });

  before(async () => {
    programs = await createPrograms();
    ({ send } = programs);
    for (const { address } of backends) programs.ipcache(`${address}/32`, 65_792, REMOTE_NODE);
    for (const proto of [PROTO.tcp, PROTO.udp])
      programs.service(ID, VIP, 80, proto, backends, { flags: AFFINITY, affinityTimeout: 10 });
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
    programs.service(ID + 1, undefined, 30_700, PROTO.tcp, backends, {
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
