import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { parse, parsePrefix } from './address.ts';
import { CONFIG_FLAG } from './object.ts';
import { read, TCP_FLAG, tcp } from './packet.fixture.ts';
import {
  createPrograms,
  NODE,
  POD,
  type Programs,
  ports,
  REMOTE,
  REMOTE_NODE,
  WORLD,
} from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';

const NODE_OWN_CLUSTER = 2;
const NODE_DIRECT = 4;
const NODE_ROUTES = 8;
/** of bpf/lib/deliver.h */
const MARK_FINAL = 0x15b7_0300;

describe('pods of other nodes without a tunnel', () => {
  let programs: Programs;
  const node = (flags: number): void =>
    programs.datapath.map('nodes').set({ addr: parse(REMOTE_NODE) }, { cluster_id: 1, flags });
  before(async () => {
    programs = await createPrograms({ flags: CONFIG_FLAG.direct | CONFIG_FLAG.unmasqueraded });
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => {
    programs.forget();
    node(NODE_OWN_CLUSTER | NODE_DIRECT);
  });

  it('to a node that is reached directly nothing is encapsulated; to others it is', () => {
    // No route leads to the pod where this test runs: the kernel's stack is asked, and will say so.
    const direct = programs.send('from_pod', tcp(ports(POD, REMOTE)));
    assert.deepEqual([direct.verdict, direct.reasons], [TC_ACT.OK, ['REASON_TO_STACK']]);
    node(NODE_OWN_CLUSTER);
    const tunnel = programs.send('from_pod', tcp(ports(POD, REMOTE)));
    assert.deepEqual([tunnel.verdict, tunnel.reasons], [TC_ACT.REDIRECT, ['REASON_FORWARDED']]);
  });

  it('a node that asks under its own address is answered the way its pods are', () => {
    for (const [flags, answered] of [
      [NODE_DIRECT, 'REASON_TO_STACK'],
      [0, 'REASON_FORWARDED'],
    ] as const) {
      programs.forget();
      node(NODE_OWN_CLUSTER | flags);
      programs.send('from_netdev', tcp(ports(REMOTE_NODE, POD, 16_500, 80)));
      const answer = tcp({ ...ports(POD, REMOTE_NODE, 80, 16_500), flags: TCP_FLAG.syn | TCP_FLAG.ack });
      assert.deepEqual(programs.send('from_pod', answer).reasons, [answered]);
    }
  });

  it('a pod’s address is taken from the uplink, also before its node is known to send so', () => {
    for (const flags of [NODE_DIRECT, 0]) {
      node(NODE_OWN_CLUSTER | flags);
      const { verdict, reasons } = programs.send('from_netdev', tcp(ports(REMOTE, POD)));
      assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_FORWARDED']]);
    }
  });

  it('on the way out pods keep their address towards pods and named prefixes, and nowhere else', () => {
    const { addr, length } = parsePrefix('198.51.100.0/28');
    programs.datapath.map('unmasqueraded').set({ prefixlen: length, addr }, { flags: 0 });
    const source = (to: string): string => {
      const { out, reasons } = programs.send('to_netdev', tcp(ports(POD, to)));
      return `${read(out).from} ${reasons.join()}`.trim();
    };
    assert.equal(source(REMOTE), POD);
    assert.equal(source('198.51.100.7'), POD);
    assert.equal(source('198.51.100.17'), `${NODE} REASON_MASQUERADED`);
  });

  it('what a program has sent out with its final addresses is not judged again, whatever else is marked is', () => {
    const source = (mark: number): string =>
      read(programs.send('to_netdev', tcp(ports(POD, '198.51.100.17')), mark).out).from;
    assert.equal(source(MARK_FINAL), POD);
    assert.equal(source(MARK_FINAL & 0xffff), NODE);
    assert.equal(source(0x200), NODE);
  });
});

describe('where every pod is behind a tunnel', () => {
  let programs: Programs;
  before(async () => {
    programs = await createPrograms();
  });
  after(() => programs?.[Symbol.dispose]());

  it('a pod’s address that comes to the uplink is a lie', () => {
    const { verdict, reasons } = programs.send('from_netdev', tcp(ports(REMOTE, POD)));
    assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, ['DROP_POD_SOURCE_OUTSIDE_TUNNEL']]);
    // Unless its node says that it sends so: the cluster is on the way from one mode to another.
    programs.datapath
      .map('nodes')
      .set({ addr: parse(REMOTE_NODE) }, { cluster_id: 1, flags: NODE_OWN_CLUSTER | NODE_ROUTES });
    assert.equal(programs.send('from_netdev', tcp(ports(REMOTE, POD))).verdict, TC_ACT.REDIRECT);
    assert.equal(read(programs.send('to_netdev', tcp(ports(POD, WORLD))).out).from, NODE);
  });
});
