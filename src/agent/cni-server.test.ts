import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { enterFreshNetns, needsRoot, podNetns } from '../../test/netns.ts';
import { changeLink, createVeth, deleteLink, linkByName, listLinks } from '../datapath/link.ts';
import { Netlink } from '../datapath/netlink.ts';
import { readSysctl } from '../datapath/sysctl.ts';
import { type Agent, builtPlugin, runPlugin, startAgent } from './cni-server.fixture.ts';
import { hostInterfaceName } from './endpoint.ts';

const inPod = (pid: number, ...command: string[]): string =>
  execFileSync('nsenter', [`--net=/proc/${pid}/ns/net`, ...command], { encoding: 'utf8' });

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `never happened: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

describe('CNI', needsRoot, () => {
  let folder: string;
  let netlink: Netlink;
  const folders: string[] = [];
  let plugin: string;
  before(async () => {
    plugin = await builtPlugin();
    enterFreshNetns();
    netlink = new Netlink();
  });
  after(() => {
    for (const each of folders) rmSync(each, { recursive: true, force: true });
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'isthmus-cni-'));
    folders.push(folder);
    for (const link of listLinks(netlink)) if (link.name.startsWith('ist')) deleteLink(netlink, link.index);
  });

  it('adds, checks and deletes a pod', async () => {
    await using agent = await startAgent(folder);
    await using pod = await podNetns();
    const args = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u1';
    const portMappings = [
      { hostPort: 8080, containerPort: 80, protocol: 'TCP' },
      { hostPort: 0, containerPort: 81, protocol: 'tcp' },
    ];
    const config = { capabilities: { portMappings: true }, runtimeConfig: { portMappings } };
    const added = await runPlugin(folder, 'ADD', { container: 'c1', netns: pod.path, args, config });
    assert.equal(added.code, 0, added.output);
    const endpoint = agent.endpoints.table.get('c1/eth0')!;
    assert.equal(endpoint.ipv4, '10.1.0.2');
    assert.equal(endpoint.namespace, 'shop');
    assert.equal(endpoint.podName, 'web-0');
    assert.equal(endpoint.podUid, 'u1');
    assert.equal(endpoint.state, 'ready');
    assert.equal(endpoint.identity, 70000);
    assert.deepEqual(endpoint.portMappings, [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]);
    assert.deepEqual(JSON.parse(added.output), {
      cniVersion: '1.0.0',
      interfaces: [
        { name: endpoint.hostIfName, mac: endpoint.hostMac },
        { name: 'eth0', mac: endpoint.mac, sandbox: pod.path },
      ],
      ips: [{ address: '10.1.0.2/32', gateway: '10.1.0.1', interface: 1 }],
      routes: [{ dst: '10.1.0.1/32' }, { dst: '0.0.0.0/0', gw: '10.1.0.1' }],
      dns: {},
    });

    const host = linkByName(netlink, endpoint.hostIfName)!;
    assert.equal(host.index, endpoint.ifindex);
    assert.equal(host.up && host.carrier, true);
    assert.equal(host.alias, 'c1/eth0');
    assert.equal(host.mtu, 1450);
    assert.equal(readSysctl(`net/ipv4/conf/${host.name}/rp_filter`), '0');
    assert.equal(agent.pins.get(`from_pod_${host.name}`), host.index);
    assert.equal(agent.map.get('10.1.0.2'), 70000);
    assert.match(
      inPod(pod.pid, 'ip', '-br', 'addr'),
      /lo\s+UNKNOWN\s+127\.0\.0\.1\/8.*\neth0@\S+\s+UP\s+10\.1\.0\.2\/32\s*\n/,
    );
    assert.match(
      inPod(pod.pid, 'ip', 'route'),
      /default via 10\.1\.0\.1 dev eth0.*\n10\.1\.0\.1 dev eth0.*scope link/,
    );
    assert.match(inPod(pod.pid, 'ip', 'neigh'), new RegExp(`10.1.0.1 dev eth0 lladdr ${host.mac} PERMANENT`));
    const checked = await runPlugin(folder, 'CHECK', {
      container: 'c1',
      netns: pod.path,
      config: { prevResult: JSON.parse(added.output) },
    });
    assert.equal(checked.code, 0, checked.output);

    const deleted = await runPlugin(folder, 'DEL', { container: 'c1', netns: pod.path });
    assert.deepEqual([deleted.code, deleted.output], [0, '']);
    assert.equal(linkByName(netlink, endpoint.hostIfName), undefined);
    assert.deepEqual([agent.endpoints.table.size, agent.map.size, agent.pins.size], [0, 0, 0]);
    assert.deepEqual(readdirSync(join(folder, 'endpoints')), []);
    const again = await runPlugin(folder, 'DEL', { container: 'c1' });
    assert.equal(again.code, 0, 'DEL of what is gone succeeds');
  });

  it('answers in the form of each version of the specification', async () => {
    await using _agent = await startAgent(folder);
    for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
      await using pod = await podNetns();
      const container = `v${cniVersion}`;
      const { output } = await runPlugin(folder, 'ADD', {
        container,
        netns: pod.path,
        config: { cniVersion },
      });
      const result = JSON.parse(output);
      assert.equal(result.cniVersion, cniVersion);
      assert.equal(result.ips[0].version, cniVersion.startsWith('0.') ? '4' : undefined);
      assert.equal(result.interfaces[1].mtu, cniVersion === '1.1.0' ? 1450 : undefined);
      await runPlugin(folder, 'DEL', { container });
    }
    const version = await runPlugin(folder, 'VERSION', { config: { cniVersion: '1.1.0' } });
    assert.deepEqual(JSON.parse(version.output), {
      cniVersion: '1.1.0',
      supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    });
  });

  it('refuses bad input by name', async () => {
    await using _agent = await startAgent(folder);
    await using pod = await podNetns();
    const code = async (
      command: string,
      call: Parameters<typeof runPlugin>[2],
    ): Promise<[number, number, string]> => {
      const answer = await runPlugin(folder, command, call);
      const { code, msg } = JSON.parse(answer.output);
      return [answer.code, code, msg];
    };
    assert.deepEqual(await code('ADD', { container: 'c', config: {} }), [1, 4, 'CNI_NETNS is missing']);
    assert.deepEqual(await code('ADD', { container: 'a/b', netns: pod.path }), [
      1,
      4,
      'CNI_CONTAINERID is missing or not a name',
    ]);
    assert.deepEqual(
      (await code('ADD', { container: 'c', netns: pod.path, config: { cniVersion: '0.1.0' } })).slice(0, 2),
      [1, 1],
    );
    assert.deepEqual(
      (await code('ADD', { container: 'c', netns: pod.path, config: { name: '' } })).slice(0, 2),
      [1, 7],
    );
    assert.deepEqual((await code('WHAT', {})).slice(0, 2), [1, 4]);
    const own = await runPlugin(folder, 'ADD', { container: 'c', netns: '/proc/self/ns/net' });
    assert.match(JSON.parse(own.output).details, /is the node's own network namespace/);
    const none = await runPlugin(folder, 'ADD', { container: 'c', netns: '/none' });
    assert.match(JSON.parse(none.output).details, /open CNI_NETNS \/none: No such file/);
  });

  it('gives back everything when the pod’s device cannot be made', async () => {
    await using agent = await startAgent(folder);
    await using pod = await podNetns();
    inPod(pod.pid, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other');
    const failed = await runPlugin(folder, 'ADD', { container: 'c2', netns: pod.path });
    assert.equal(failed.code, 1);
    assert.match(JSON.parse(failed.output).details, /already has a device eth0/);
    assert.equal(agent.endpoints.table.size, 0);
    assert.equal(linkByName(netlink, hostInterfaceName('c2/eth0')), undefined);
    inPod(pod.pid, 'ip', 'link', 'del', 'eth0');
    const unattached = await runPlugin(folder, 'ADD', { container: 'c2', netns: pod.path });
    assert.equal(unattached.code, 0, unattached.output);
  });

  it('gives an ADD that is tried again the same address', async () => {
    await using agent = await startAgent(folder);
    await using pod = await podNetns();
    const first = await runPlugin(folder, 'ADD', { container: 'c3', netns: pod.path });
    const second = await runPlugin(folder, 'ADD', { container: 'c3', netns: pod.path });
    assert.equal(second.code, 0, second.output);
    assert.deepEqual(JSON.parse(second.output).ips, JSON.parse(first.output).ips);
    assert.equal(agent.endpoints.table.size, 1);
    const checked = await runPlugin(folder, 'CHECK', { container: 'c3', netns: pod.path });
    assert.equal(checked.code, 0, checked.output);
  });

  it('finds with CHECK whatever was changed behind its back', async () => {
    await using agent = await startAgent(folder);
    await using pod = await podNetns();
    await runPlugin(folder, 'ADD', { container: 'c4', netns: pod.path });
    const endpoint = agent.endpoints.table.get('c4/eth0')!;
    const problem = async (): Promise<string> => {
      const answer = await runPlugin(folder, 'CHECK', { container: 'c4', netns: pod.path });
      return answer.code === 0 ? 'none' : JSON.parse(answer.output).details;
    };
    assert.equal(await problem(), 'none');
    inPod(pod.pid, 'ip', 'route', 'del', 'default');
    assert.match(await problem(), /route 0\.0\.0\.0\/0: No such file/);
    inPod(pod.pid, 'ip', 'route', 'add', 'default', 'via', '10.1.0.1');
    inPod(pod.pid, 'ip', 'addr', 'add', '10.9.9.9/32', 'dev', 'eth0');
    assert.equal(await problem(), 'none');
    inPod(pod.pid, 'ip', 'link', 'set', 'eth0', 'mtu', '1400');
    assert.match(await problem(), /MTU 1400, expected 1450/);
    inPod(pod.pid, 'ip', 'link', 'set', 'eth0', 'mtu', '1450');
    changeLink(netlink, endpoint.ifindex, { up: false });
    assert.match(await problem(), /is down/);
    changeLink(netlink, endpoint.ifindex, { up: true });
    agent.pins.clear();
    assert.match(await problem(), /no program is attached/);
    const unknown = await runPlugin(folder, 'CHECK', { container: 'c5', netns: pod.path });
    assert.equal(JSON.parse(unknown.output).code, 3);
  });

  it('collects what the runtime no longer knows, and nothing of other networks', async () => {
    await using agent = await startAgent(folder);
    const pods = await Promise.all([podNetns(), podNetns(), podNetns()]);
    for (const [at, pod] of pods.entries())
      await runPlugin(folder, 'ADD', {
        container: `g${at}`,
        netns: pod.path,
        config: at === 2 ? { name: 'other' } : {},
      });
    const unasked = await runPlugin(folder, 'GC', { config: { cniVersion: '1.1.0' } });
    assert.deepEqual([unasked.code, unasked.output], [0, '']);
    assert.equal(agent.endpoints.table.size, 3);
    const config = {
      cniVersion: '1.1.0',
      'cni.dev/valid-attachments': [{ containerID: 'g1', ifname: 'eth0' }],
    };
    const collected = await runPlugin(folder, 'GC', { config });
    assert.deepEqual([collected.code, collected.output], [0, '']);
    assert.deepEqual([...agent.endpoints.table.keys()], ['g1/eth0', 'g2/eth0']);
    assert.equal(linkByName(netlink, hostInterfaceName('g0/eth0')), undefined);
    for (const pod of pods) await pod[Symbol.asyncDispose]();
  });

  it('gives a pod of dual stack an address, a gateway and a route of each family', async () => {
    await using agent = await startAgent(folder, { cidrs6: ['fd00:10::/64'] });
    await using pod = await podNetns();
    const added = await runPlugin(folder, 'ADD', { container: 'd1', netns: pod.path });
    assert.equal(added.code, 0, added.output);
    const { ips, routes } = JSON.parse(added.output);
    assert.deepEqual(ips, [
      { address: '10.1.0.2/32', gateway: '10.1.0.1', interface: 1 },
      { address: 'fd00:10::2/128', gateway: 'fd00:10::1', interface: 1 },
    ]);
    assert.deepEqual(routes.slice(2), [{ dst: 'fd00:10::1/128' }, { dst: '::/0', gw: 'fd00:10::1' }]);
    assert.deepEqual([...agent.map.keys()], ['10.1.0.2', 'fd00:10::2']);
    // No address of its own making, none that is still being tried.
    assert.match(
      inPod(pod.pid, 'ip', '-6', '-o', 'address', 'show', 'dev', 'eth0'),
      /inet6 fd00:10::2\/128 scope global /,
    );
    assert.doesNotMatch(inPod(pod.pid, 'ip', '-6', '-o', 'address', 'show', 'dev', 'eth0'), /fe80|tentative/);
    assert.match(inPod(pod.pid, 'ip', '-6', 'route'), /default via fd00:10::1 dev eth0/);
    assert.match(inPod(pod.pid, 'ip', '-6', 'neigh'), /fd00:10::1 dev eth0 lladdr \S+ .*PERMANENT/);
    const check = { container: 'd1', netns: pod.path, config: { prevResult: JSON.parse(added.output) } };
    assert.equal((await runPlugin(folder, 'CHECK', check)).code, 0);
    inPod(pod.pid, 'ip', '-6', 'route', 'del', 'default');
    const found = await runPlugin(folder, 'CHECK', check);
    assert.match(JSON.parse(found.output).details, /the pod's route ::\/0/);
    assert.equal((await runPlugin(folder, 'DEL', { container: 'd1' })).code, 0);
    assert.equal(agent.map.size, 0);
  });

  it('says by STATUS whether pods can be added', async () => {
    let problem: string | undefined = 'the uplink is down';
    await using _agent = await startAgent(folder, { problem: () => problem });
    const config = { cniVersion: '1.1.0' };
    const bad = await runPlugin(folder, 'STATUS', { config });
    assert.deepEqual(JSON.parse(bad.output), {
      cniVersion: '1.1.0',
      code: 50,
      msg: 'the datapath is not ready',
      details: problem,
    });
    problem = undefined;
    assert.equal((await runPlugin(folder, 'STATUS', { config })).code, 0);
  });

  it('starts a pod as reserved:init when its identity takes long, and corrects it', async () => {
    const identity = Promise.withResolvers<number>();
    await using agent = await startAgent(folder, { identify: () => identity.promise, identityWait: 20 });
    await using pod = await podNetns();
    const added = await runPlugin(folder, 'ADD', { container: 'late', netns: pod.path });
    assert.equal(added.code, 0, added.output);
    assert.equal(agent.map.get('10.1.0.2'), 5);
    identity.resolve(66001);
    await until('the identity arrives', () => agent.map.get('10.1.0.2') === 66001);
  });

  it('is the loopback plugin under that name, without an agent', async () => {
    await using pod = await podNetns();
    const loopback = join(folder, 'loopback');
    symlinkSync(plugin, loopback);
    const call = {
      plugin: loopback,
      container: 'l1',
      netns: pod.path,
      ifName: 'lo',
      config: { cniVersion: '0.3.1' },
    };
    assert.equal((await runPlugin(folder, 'CHECK', call)).code, 1);
    const added = await runPlugin(folder, 'ADD', call);
    assert.deepEqual(JSON.parse(added.output).ips, [{ version: '4', interface: 0, address: '127.0.0.1/8' }]);
    assert.match(inPod(pod.pid, 'ip', '-br', 'addr'), /lo\s+UNKNOWN\s+127\.0\.0\.1\/8/);
    assert.equal((await runPlugin(folder, 'CHECK', call)).code, 0);
    assert.equal((await runPlugin(folder, 'DEL', call)).code, 0);
  });

  it('deletes without an agent, and the next agent knows', async () => {
    const pins = new Map<string, number>();
    await using pod = await podNetns();
    {
      await using _agent = await startAgent(folder, { pins });
      await runPlugin(folder, 'ADD', { container: 'c6', netns: pod.path });
    }
    assert.equal(pins.size, 1);
    const deleted = await runPlugin(folder, 'DEL', { container: 'c6' });
    assert.deepEqual([deleted.code, deleted.output], [0, '']);
    assert.deepEqual(readdirSync(join(folder, 'cni-release')), ['c6@eth0']);
    assert.equal(linkByName(netlink, hostInterfaceName('c6/eth0')), undefined);
    await using agent = await startAgent(folder, { pins });
    assert.equal(agent.endpoints.table.size, 0);
    await until(
      'pins and notes are gone',
      () => pins.size === 0 && readdirSync(join(folder, 'cni-release')).length === 0,
    );
  });

  it('deletes no device of another container without an agent', async () => {
    createVeth(netlink, { name: hostInterfaceName('c7/eth0'), peer: 'x7' });
    changeLink(netlink, linkByName(netlink, 'x7')!.index, { alias: '' });
    const deleted = await runPlugin(folder, 'DEL', { container: 'c7' });
    assert.equal(deleted.code, 0);
    assert.ok(linkByName(netlink, hostInterfaceName('c7/eth0')));
  });

  it('waits for an agent, then asks to be tried again', async () => {
    await using pod = await podNetns();
    const env = { ISTHMUS_CNI_TIMEOUT_MS: '60' };
    const failed = await runPlugin(folder, 'ADD', { container: 'c8', netns: pod.path, env });
    assert.equal(failed.code, 1);
    const { code, msg } = JSON.parse(failed.output);
    assert.deepEqual([code, msg], [11, 'the Isthmus agent is not running']);
    const waiting = runPlugin(folder, 'ADD', { container: 'c8', netns: pod.path });
    await using _agent = await startAgent(folder);
    assert.equal((await waiting).code, 0);
    const status = await runPlugin(`${folder}/none`, 'STATUS', { config: { cniVersion: '1.1.0' } });
    assert.equal(JSON.parse(status.output).code, 50);
  });

  it('survives an agent that dies in the middle of an ADD', async () => {
    await using pod = await podNetns();
    const pins = new Map<string, number>();
    const asked = Promise.withResolvers<void>();
    const identity = Promise.withResolvers<number>();
    const first = await startAgent(folder, {
      pins,
      identify: () => {
        asked.resolve();
        return identity.promise;
      },
    });
    const adding = runPlugin(folder, 'ADD', { container: 'c9', netns: pod.path });
    await asked.promise;
    await until(
      'the device is made and up',
      () => linkByName(netlink, hostInterfaceName('c9/eth0'))?.up === true,
    );
    await first[Symbol.asyncDispose]();
    await using agent = await startAgent(folder, { pins });
    const added = await adding;
    assert.equal(added.code, 0, added.output);
    assert.equal(JSON.parse(added.output).ips[0].address, '10.1.0.2/32');
    const endpoint = agent.endpoints.table.get('c9/eth0')!;
    assert.equal(pins.get(`from_pod_${endpoint.hostIfName}`), endpoint.ifindex);
    const checked = await runPlugin(folder, 'CHECK', { container: 'c9', netns: pod.path });
    assert.equal(checked.code, 0, checked.output);
    // The first agent is only a promise now: it would go on waiting.
    identity.resolve(70000);
  });

  it('restarts with the same endpoints, and gives no address twice', async () => {
    const pins = new Map<string, number>();
    const pods = await Promise.all(Array.from({ length: 5 }, () => podNetns()));
    {
      await using _agent = await startAgent(folder, { pins });
      for (const [at, pod] of pods.entries())
        await runPlugin(folder, 'ADD', { container: `r${at}`, netns: pod.path });
    }
    // Gone while no agent ran: a namespace (and its veth with it), and a file that nobody can read.
    await pods[0]![Symbol.asyncDispose]();
    await until(
      'the veth of a dead namespace is gone',
      () => !linkByName(netlink, hostInterfaceName('r0/eth0')),
    );
    writeFileSync(join(folder, 'endpoints/999.json'), '{"id":');
    // Left by nobody: a device with a name of ours.
    createVeth(netlink, { name: 'ist0123456789a', peer: 'leaked' });
    pins.set('from_pod_istfffffffffff', 1);
    await using agent = await startAgent(folder, { pins });
    assert.deepEqual([...agent.endpoints.table.keys()].sort(), ['r1/eth0', 'r2/eth0', 'r3/eth0', 'r4/eth0']);
    await until('the leaked device is gone', () => !linkByName(netlink, 'ist0123456789a'));
    await until('stale pins are gone', () => pins.size === 4);
    assert.ok(existsSync(join(folder, 'endpoints/999.json.bad')));
    await until('the map is filled', () => agent.map.size === 4);
    assert.equal(agent.map.get('10.1.0.3'), 70000);
    await using pod = await podNetns();
    const added = await runPlugin(folder, 'ADD', { container: 'r9', netns: pod.path });
    assert.equal(JSON.parse(added.output).ips[0].address, '10.1.0.7/32');
    for (const each of pods.slice(1)) await each[Symbol.asyncDispose]();
  });

  it('removes endpoints whose namespace died without a DEL, and ADDs that never ended', async () => {
    mkdirSync(join(folder, 'endpoints'));
    await using agent = await startAgent(folder, { sweepInterval: 20, addGrace: 100 });
    const pod = await podNetns();
    await runPlugin(folder, 'ADD', { container: 'd1', netns: pod.path });
    await pod[Symbol.asyncDispose]();
    await until('the endpoint is gone', () => agent.endpoints.table.size === 0);
    agent.endpoints.begin({
      command: 'ADD',
      version: '1.0.0',
      network: 'isthmus',
      containerId: 'd2',
      ifName: 'eth0',
      netns: '/x',
      namespace: '',
      podName: '',
      podUid: '',
      portMappings: [],
      previous: undefined,
      valid: undefined,
    });
    await until('the abandoned ADD is gone', () => agent.endpoints.table.size === 0);
    assert.deepEqual(readdirSync(join(folder, 'endpoints')), []);
  });

  it('adds fifty pods at once, and says when addresses run out', async () => {
    await using agent: Agent = await startAgent(folder, {
      cidrs: ['10.1.0.0/26'],
      sweepInterval: 1000,
    });
    const pods = await Promise.all(Array.from({ length: 50 }, () => podNetns()));
    const answers = await Promise.all(
      pods.map((pod, at) => runPlugin(folder, 'ADD', { container: `p${at}`, netns: pod.path })),
    );
    assert.deepEqual(
      [...new Set(answers.map(each => each.code))],
      [0],
      answers.find(each => each.code)?.output ?? '',
    );
    const addresses = answers.map(each => JSON.parse(each.output).ips[0].address);
    assert.equal(new Set(addresses).size, 50);
    assert.equal(agent.map.size, 50);
    for (const name of readdirSync(join(folder, 'endpoints')))
      assert.equal(JSON.parse(readFileSync(join(folder, 'endpoints', name), 'utf8')).state, 'ready');
    // In one namespace, where a runtime never does two things at once: their gateway is the same.
    for (let at = 0; at < 12; at++) {
      const more = { container: `q${at}`, netns: pods[0]!.path, ifName: `net${at}` };
      const { code, output } = await runPlugin(folder, 'ADD', more);
      if (at < 11) assert.equal(code, 0, output);
      else {
        const said = JSON.parse(output);
        assert.deepEqual([said.code, said.msg], [11, 'no free IPv4 address in the pod CIDR of this node']);
      }
    }
    await Promise.all(pods.map((_, at) => runPlugin(folder, 'DEL', { container: `p${at}` })));
    // A plugin that an agent on a busy machine did not hear leaves a note.
    await until('all fifty are released', () => agent.endpoints.table.size === 11);
    for (const pod of pods) await pod[Symbol.asyncDispose]();
  });
});
