import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildBpf } from '../../deploy/build.ts';
import { type PodNetns, podNetns, wholeProcessInFreshNetns } from '../../test/netns.ts';
import { parse, parsePrefix } from '../datapath/address.ts';
import { changeLink, createVeth, linkByName } from '../datapath/link.ts';
import { addAddress } from '../datapath/link-address.ts';
import { Netlink } from '../datapath/netlink.ts';
import { macBytes } from '../datapath/netlink-address.ts';
import { netnsCookie } from '../datapath/netns-cookie.ts';
import { type Datapath, loadDatapath } from '../datapath/object.ts';
import { replaceRoute } from '../datapath/route.ts';
import { log } from '../log.ts';
import { type Agent, builtPlugin, runPlugin, startAgent } from './cni-server.fixture.ts';
import { type Devices, ensureDevices } from './devices.ts';
import type { IpcacheMapRow } from './ipcache.ts';
import { findUplinks } from './uplink.ts';

const NODE_IP = '172.18.1.2';
const INTERNAL_IP = '10.1.0.1';
const NODE_IP6 = 'fd00:18::2';
const INTERNAL_IP6 = 'fd00:10::1';
const POD_CIDR6 = 'fd00:10::/64';

/** One node in a namespace: plugin, agent's CNI half and BPF programs, all real. */
if (wholeProcessInFreshNetns(import.meta.filename))
  describe('pods of one node', () => {
    let folder: string;
    let netlink: Netlink;
    let devices: Devices;
    let objectPath: string;
    before(async () => {
      [objectPath] = await Promise.all([buildBpf(), builtPlugin()]);
      folder = mkdtempSync(join(tmpdir(), 'isthmus-pods-'));
      mkdirSync(join(folder, 'bpf'));
      execFileSync('mount', ['-t', 'bpf', 'bpf', join(folder, 'bpf')]);
      netlink = new Netlink();
      createVeth(netlink, { name: 'eth0', peer: 'far0' });
      for (const name of ['lo', 'eth0', 'far0'])
        changeLink(netlink, linkByName(netlink, name)!.index, { up: true });
      addAddress(netlink, linkByName(netlink, 'eth0')!.index, `${NODE_IP}/24`);
      addAddress(netlink, linkByName(netlink, 'eth0')!.index, `${NODE_IP6}/64`);
      const uplinks = findUplinks(netlink, { devices: [], nodeIp: NODE_IP });
      devices = ensureDevices({
        netlink,
        uplinks,
        internalIps: [INTERNAL_IP, INTERNAL_IP6],
        underlay: 4,
        tunnelPort: 8472,
        log,
      });
      replaceRoute(netlink, { prefix: '10.1.0.0/24', ifindex: devices.host.index, source: INTERNAL_IP });
      replaceRoute(netlink, { prefix: POD_CIDR6, ifindex: devices.host.index, source: INTERNAL_IP6 });
    });
    after(() => {
      execFileSync('umount', ['-l', join(folder, 'bpf')]);
      rmSync(folder, { recursive: true, force: true });
    });

    /** What an agent does at its start: programs anew, maps and endpoints adopted. */
    async function start(): Promise<{
      readonly agent: Agent;
      readonly datapath: Datapath;
      stop(): Promise<void>;
    }> {
      const datapath = loadDatapath({
        objectPath,
        bpffs: join(folder, 'bpf/isthmus'),
        config: {
          node_ip: parse(NODE_IP),
          node_ip6: parse(NODE_IP6),
          internal_ip: parse(INTERNAL_IP),
          internal_ip6: parse(INTERNAL_IP6),
          hairpin_ip: parse('169.254.42.1'),
          hairpin_ip6: parse('fe80::1'),
          host_netns_cookie: netnsCookie(),
          host_ifindex: devices.host.index,
          vxlan_ifindex: devices.vxlan.index,
          flags: 0,
          cluster_id: 1,
          cluster_shift: 16,
          nat_port_min: 61000,
          nat_port_max: 65535,
          vxlan_port: 8472,
          host_mac: macBytes(devices.host.mac),
        },
      });
      for (const prefix of ['10.1.0.0/24', POD_CIDR6]) {
        const { addr, length } = parsePrefix(prefix);
        datapath
          .map<IpcacheMapRow['key'], IpcacheMapRow['value']>('ipcache')
          .set(
            { prefixlen: 32 + length, cluster_id: 0, pad: 0, addr },
            { identity: 2, tunnel: parse(NODE_IP), encrypt_key: 0, flags: 0, pad: 0 },
          );
      }
      const agent = await startAgent(folder, {
        datapath,
        cidrs6: [POD_CIDR6],
        hostAddresses: [INTERNAL_IP, NODE_IP, INTERNAL_IP6, NODE_IP6],
      });
      datapath.attachDevice('from_host', devices.host.index, 'egress', 'from_host');
      datapath.attachDevice('from_overlay', devices.vxlan.index, 'ingress', 'from_overlay');
      return {
        agent,
        datapath,
        async stop() {
          await agent[Symbol.asyncDispose]();
          datapath[Symbol.dispose]();
        },
      };
    }

    const reaches = (from: PodNetns | undefined, address: string): boolean => {
      try {
        const ping = ['ping', '-c', '1', '-W', '1', address];
        if (from) execFileSync('nsenter', [`--net=/proc/${from.pid}/ns/net`, ...ping]);
        else execFileSync(ping[0]!, ping.slice(1));
        return true;
      } catch {
        return false;
      }
    };
    const add = async (container: string, pod: PodNetns): Promise<string> => {
      const answer = await runPlugin(folder, 'ADD', { container, netns: pod.path });
      assert.equal(answer.code, 0, answer.output);
      return JSON.parse(answer.output).ips[0].address.replace('/32', '');
    };

    it('reach each other and the node as soon as ADD has answered, and not after DEL', async () => {
      const node = await start();
      await using a = await podNetns();
      await using b = await podNetns();
      const first = await add('a', a);
      const second = await add('b', b);
      assert.equal(reaches(a, second), true, 'pod to pod');
      assert.equal(reaches(b, first), true, 'and back');
      assert.equal(reaches(a, INTERNAL_IP), true, 'pod to gateway');
      assert.equal(reaches(undefined, first), true, 'node to pod');
      const checked = await runPlugin(folder, 'CHECK', { container: 'a', netns: a.path });
      assert.equal(checked.code, 0, checked.output);
      await runPlugin(folder, 'DEL', { container: 'b', netns: b.path });
      assert.equal(reaches(a, second), false);
      assert.deepEqual(node.datapath.pinned().filter(each => each.startsWith('from_pod')).length, 1);
      await runPlugin(folder, 'DEL', { container: 'a', netns: a.path });
      await node.stop();
    });

    it('reach each other and the node by IPv6, also after a look for the neighbour', async () => {
      const node = await start();
      await using a = await podNetns();
      await using b = await podNetns();
      for (const [container, pod] of [
        ['a', a],
        ['b', b],
      ] as const)
        await add(container, pod);
      const [first, second] = ['fd00:10::2', 'fd00:10::3'];
      assert.deepEqual(
        [...node.agent.endpoints.table.values()].map(each => each.ipv6),
        [first, second],
      );
      assert.equal(reaches(a, second), true, 'pod to pod');
      assert.equal(reaches(b, first), true, 'and back');
      assert.equal(reaches(a, INTERNAL_IP6), true, 'pod to gateway');
      assert.equal(reaches(a, NODE_IP6), true, 'pod to node');
      assert.equal(reaches(undefined, first), true, 'node to pod');
      // Also where the permanent entry was flushed: the program answers.
      execFileSync('nsenter', [
        `--net=/proc/${a.pid}/ns/net`,
        'ip',
        '-6',
        'neigh',
        'flush',
        'all',
        'nud',
        'permanent',
      ]);
      assert.equal(reaches(a, second), true, 'after a look for the neighbour');
      for (const container of ['a', 'b']) await runPlugin(folder, 'DEL', { container });
      assert.equal(reaches(undefined, first), false);
      await node.stop();
    });

    it('are connected again by an ADD that is tried again', async () => {
      const node = await start();
      await using a = await podNetns();
      await using b = await podNetns();
      const first = await add('a', a);
      const second = await add('b', b);
      assert.equal(await add('a', a), first);
      assert.equal(reaches(a, second), true);
      for (const container of ['a', 'b']) await runPlugin(folder, 'DEL', { container });
      await node.stop();
    });

    it('are known again by an agent that finds their files lost', async () => {
      let node = await start();
      await using a = await podNetns();
      await using b = await podNetns();
      const first = await add('a', a);
      await node.stop();
      rmSync(join(folder, 'endpoints'), { recursive: true });
      node = await start();
      const endpoint = node.agent.endpoints.table.get('a/eth0')!;
      assert.deepEqual([endpoint.ipv4, endpoint.identity, endpoint.state], [first, 70000, 'ready']);
      const second = await add('b', b);
      assert.notEqual(second, first);
      assert.equal(reaches(b, first), true);
      const checked = await runPlugin(folder, 'CHECK', { container: 'a', netns: a.path });
      assert.equal(checked.code, 0, checked.output);
      for (const container of ['a', 'b']) await runPlugin(folder, 'DEL', { container });
      assert.equal(node.agent.endpoints.table.size, 0);
      await node.stop();
    });

    it('lose no packet while the agent is away and when it comes back', async () => {
      let node = await start();
      await using a = await podNetns();
      await using b = await podNetns();
      await add('a', a);
      const second = await add('b', b);
      using ping = pinging(a, second);
      await ping.more(1);
      for (let round = 0; round < 3; round++) {
        await node.stop();
        await ping.more(20);
        node = await start();
        assert.equal(node.agent.endpoints.table.size, 2);
      }
      await ping.more(20);
      // None is missing in between; the last may be on its way.
      assert.deepEqual(
        ping.answers(),
        ping.answers().map((_, index) => index + 1),
      );
      for (const container of ['a', 'b']) await runPlugin(folder, 'DEL', { container });
      await node.stop();
    });
  });

interface Pinging extends Disposable {
  /** The sequence numbers that were answered, in the order of the answers. */
  answers(): number[];
  /** Resolves after so many further answers; fails when it ends before. */
  more(count: number): Promise<void>;
}

/** A ping every 5 ms, until disposed. */
function pinging(from: PodNetns, address: string): Pinging {
  const child = spawn('nsenter', [`--net=/proc/${from.pid}/ns/net`, 'ping', '-i', '0.005', address], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const ended = once(child, 'close').then(() => {
    throw new Error(`ping ${address} ended: ${output.slice(-200)}`);
  });
  ended.catch(() => undefined);
  const answers = (): number[] =>
    Array.from(output.matchAll(/icmp_seq=(\d+) ttl/g), ([, seq]) => Number(seq));
  return {
    answers,
    async more(count) {
      const wanted = answers().length + count;
      while (answers().length < wanted) await Promise.race([once(child.stdout, 'data'), ended]);
    },
    [Symbol.dispose]: () => void child.kill(),
  };
}
