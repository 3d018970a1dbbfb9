/**
 * `npm run bench:cni`: the time of CNI ADD and DEL by cnitool, Isthmus beside `ptp` with `host-local`, one after
 * the other in turn on the same machine in the same minute. Isthmus' side is the plugin, the agent's CNI half
 * and the BPF programs; the identity is known at once, as it is when the pod's labels have been seen before.
 * Options: --rounds N (default 100).
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { buildBpf } from '../deploy/build.ts';
import { builtPlugin, startAgent } from '../src/agent/cni-server.fixture.ts';
import { ensureDevices } from '../src/agent/devices.ts';
import { findUplinks } from '../src/agent/uplink.ts';
import { parse } from '../src/datapath/address.ts';
import { changeLink, createVeth, linkByName } from '../src/datapath/link.ts';
import { addAddress } from '../src/datapath/link-address.ts';
import { Netlink } from '../src/datapath/netlink.ts';
import { macBytes } from '../src/datapath/netlink-address.ts';
import { netnsCookie } from '../src/datapath/netns-cookie.ts';
import { loadDatapath } from '../src/datapath/object.ts';
import { ensureBinaries } from '../src/lab/binaries.ts';
import { log } from '../src/log.ts';
import { podNetns } from '../test/netns.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' } } });
const rounds = Number(values.rounds);
log.level = 'error';

const report = (line: string): void => console.error(line);
const {
  cnitool,
  ptp,
  'host-local': hostLocal,
} = await ensureBinaries(['cnitool', 'ptp', 'host-local'], { report });
const objectPath = await buildBpf();
const plugin = await builtPlugin();
// The agent's other threads attach programs: the whole process has to be in the namespace.
if (process.env.ISTHMUS_BENCH_NETNS !== 'own') {
  const env = { ...process.env, ISTHMUS_BENCH_NETNS: 'own' };
  const words = ['--net', process.execPath, ...process.argv.slice(1)];
  process.exit(spawnSync('unshare', words, { env, stdio: 'inherit' }).status ?? 1);
}
const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-cni-'));
const [bin, bpf] = [join(folder, 'bin'), join(folder, 'bpf')];
mkdirSync(bin);
mkdirSync(bpf);
for (const [name, path] of Object.entries({
  ptp,
  'host-local': hostLocal,
  'isthmus-cni': plugin,
}))
  copyFileSync(path, join(bin, name));
const configuration = (name: string, plugin: object): string => {
  mkdirSync(join(folder, name));
  const list = { cniVersion: '1.0.0', name, plugins: [plugin] };
  writeFileSync(join(folder, name, '10.conflist'), JSON.stringify(list));
  return name;
};
const isthmus = configuration('isthmus', { type: 'isthmus-cni' });
const peer = configuration('ptp', {
  type: 'ptp',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.2.0.0/16' }]], dataDir: join(folder, 'ipam') },
});

execFileSync('mount', ['-t', 'bpf', 'bpf', bpf]);
try {
  using netlink = new Netlink();
  createVeth(netlink, { name: 'eth0', peer: 'far0' });
  for (const name of ['lo', 'eth0', 'far0'])
    changeLink(netlink, linkByName(netlink, name)!.index, { up: true });
  addAddress(netlink, linkByName(netlink, 'eth0')!.index, '172.18.1.2/24');
  const uplinks = findUplinks(netlink, { devices: [], nodeIp: '172.18.1.2' });
  const devices = ensureDevices({
    netlink,
    uplinks,
    internalIps: ['10.1.0.1'],
    underlay: 4,
    tunnelPort: 8472,
    log,
  });
  using datapath = loadDatapath({
    objectPath,
    bpffs: join(bpf, 'isthmus'),
    config: {
      node_ip: parse('172.18.1.2'),
      node_ip6: new Uint8Array(16),
      internal_ip: parse('10.1.0.1'),
      internal_ip6: new Uint8Array(16),
      hairpin_ip: parse('169.254.42.1'),
      hairpin_ip6: new Uint8Array(16),
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
  const inAgent: number[] = [];
  await using _agent = await startAgent(folder, {
    datapath,
    onCall: (command, milliseconds) => {
      if (command === 'ADD') inAgent.push(milliseconds);
    },
  });
  const env = {
    PATH: process.env.PATH,
    CNI_PATH: bin,
    ISTHMUS_CNI_SOCK: join(folder, 'cni.sock'),
    ISTHMUS_CNI_RELEASES: join(folder, 'cni-release'),
  };
  const run = async (command: string, network: string, netns: string): Promise<number> => {
    const started = performance.now();
    const child = spawn(cnitool, [command, network, netns], {
      env: { ...env, NETCONFPATH: join(folder, network) },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const code = await new Promise<number | null>(resolve => child.once('close', resolve));
    if (code !== 0) throw new Error(`cnitool ${command} ${network} failed`);
    return performance.now() - started;
  };
  const times = new Map<string, number[]>();
  const note = (key: string, value: number): void => void times.set(key, [...(times.get(key) ?? []), value]);
  for (let round = 0; round < rounds + 5; round++)
    for (const network of round % 2 ? [isthmus, peer] : [peer, isthmus]) {
      await using pod = await podNetns();
      const add = await run('add', network, pod.path);
      const del = await run('del', network, pod.path);
      if (round < 5) continue;
      note(`ADD ${network}`, add);
      note(`DEL ${network}`, del);
    }
  const at = (list: readonly number[], part: number): number =>
    [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * part))]!;
  const table = new Table({ head: ['', 'p50 ms', 'p99 ms'], style: { head: [], border: [] } });
  const row = (name: string, list: readonly number[]): void =>
    void table.push([name, at(list, 0.5).toFixed(1), at(list, 0.99).toFixed(1)]);
  for (const command of ['ADD', 'DEL'])
    for (const [network, name] of [
      [isthmus, 'isthmus'],
      [peer, 'ptp + host-local'],
    ] as const)
      row(`${command} ${name}`, times.get(`${command} ${network}`)!);
  row('ADD isthmus, in the agent', inAgent.slice(5));
  console.log(table.toString());
  const more = [0.5, 0.99].map(
    part => at(times.get(`ADD ${isthmus}`)!, part) - at(times.get(`ADD ${peer}`)!, part),
  );
  console.log(
    `ADD beside ptp: p50 ${more[0]!.toFixed(1)} ms more, p99 ${more[1]!.toFixed(1)} ms more (goal: at most 20)`,
  );
} finally {
  execFileSync('umount', ['-l', bpf]);
  rmSync(folder, { recursive: true, force: true });
}
