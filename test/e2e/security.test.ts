/** Who may read the mesh etcd, what comes out of the tunnel, and as whom a pod may speak. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { after, before, test } from 'node:test';
import { createAuthority, issueCertificate, type KeyPair } from '../../src/clustermesh/x509.ts';
import { udp } from '../../src/datapath/packet.fixture.ts';
import { type ClusterOfTest, eventually, mesh, namespace, podAddress, ready, serverPod } from './mesh.ts';
import { certificateOf, type MeshEtcd, meshEtcd, secretOf } from './mesh-etcd.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let etcd: MeshEtcd;
const at: Record<string, string> = {};
const identity: Record<string, number> = {};

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('security');
  await us.apply(serverPod('target', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('same', { node: 'us-worker2' }), ns.name);
  await us.apply(withNetAdmin(serverPod('liar', { node: 'us-worker2' })), ns.name);
  await eu.apply(serverPod('far', { node: 'eu-worker' }), ns.name);
  await ready(us, ns.name, 'target', 'same', 'liar');
  await ready(eu, ns.name, 'far');
  for (const [cluster, pods] of [
    [us, ['target', 'same', 'liar']],
    [eu, ['far']],
  ] as const)
    for (const pod of pods) {
      at[pod] = await podAddress(cluster, ns.name, pod);
      identity[pod] = await eventually(`identity of ${pod}`, async () => {
        const path = 'jsonpath={.status.identity.id}';
        return (
          Number(await cluster.kubectl('-n', ns.name, 'get', 'ciliumendpoint', pod, '-o', path)) || undefined
        );
      });
    }
  for (const [cluster, node] of [
    [us, 'us-worker'],
    [us, 'us-worker2'],
  ] as const)
    at[node] = await cluster.kubectl(
      ...['get', 'node', node, '-o', 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'],
    );
  etcd = await meshEtcd(us);
});
after(async () => {
  await etcd?.[Symbol.asyncDispose]();
  await ns?.[Symbol.asyncDispose]();
});

test('the mesh etcd answers nobody without a certificate of its own CA', async () => {
  assert.equal(await etcd.refusal(undefined), 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
  // Whoever has the CA of another cluster of the mesh is still nobody here, whatever he calls himself.
  const { 'ca.crt': cert, 'ca.key': key } = await secretOf(eu, 'isthmus-ca');
  const [notBefore, notAfter] = hours;
  for (const authority of [{ cert: cert!, key: key! }, await createAuthority('a stranger', ...hours)]) {
    const wanted = { commonName: 'admin-us', usages: ['client' as const], notBefore, notAfter };
    assert.match(
      await etcd.refusal(await issueCertificate(authority, wanted)),
      /^ERR_SSL_TLSV1_ALERT_UNKNOWN_CA$|^ERR_SSL_(SSLV3|TLSV1)_ALERT_BAD_CERTIFICATE$/,
    );
  }
});

test('another cluster, and the user remote, read what is exported; they read and write nothing else', async () => {
  const held = await secretOf(eu, 'cilium-clustermesh');
  const users: Readonly<Record<string, KeyPair>> = {
    remote: await certificateOf(us, 'clustermesh-apiserver-remote-cert'),
    'remote-eu': { cert: held['us.etcd-client.crt']!, key: held['us.etcd-client.key']! },
  };
  const nodeKey = 'cilium/state/nodes/v1/us/us-worker';
  for (const [user, client] of Object.entries(users)) {
    const may = async (...args: string[]): Promise<void> => {
      const { code, stderr } = await etcd.try(client, ...args);
      assert.equal(code, 0, `${user}: ${args.join(' ')}: ${stderr}`);
    };
    const mayNot = async (...args: string[]): Promise<void> => {
      const { code, stdout, stderr } = await etcd.try(client, ...args);
      assert.notEqual(code, 0, `${user}: ${args.join(' ')} was allowed: ${stdout}`);
      assert.match(stderr, /permission denied/, `${user}: ${args.join(' ')}`);
    };
    await may('get', nodeKey);
    await may('get', '--prefix', 'cilium/state/');
    await may('get', 'cilium/cluster-config/us');
    await may('get', '--prefix', 'cilium/synced/us/');
    await mayNot('put', nodeKey, '{}');
    await mayNot('del', '--prefix', 'cilium/state/');
    await mayNot('put', 'anything', 'else');
    await mayNot('get', '--prefix', '');
    await mayNot('get', '--prefix', 'cilium/');
    await mayNot('get', '--prefix', 'cilium/cluster-config/');
    await mayNot('get', '--prefix', 'cilium/cache/');
    await mayNot('user', 'list');
    await mayNot('user', 'add', 'friend:secret');
    await mayNot('auth', 'disable');
  }
  assert.match(await etcd.admin('get', '--print-value-only', nodeKey), /"Name":"us-worker"/);
});

test('what comes out of the tunnel is from a known node, as somebody of its cluster; the rest is counted', async () => {
  const sent = 7;
  const frame = udp({ from: at.far!, to: at.target!, fromPort: 4000, toPort: 8081 });
  const expects = async (
    what: string,
    vni: number,
    send: (packet: Uint8Array, times: number) => Promise<unknown>,
    fate: { readonly arrive: number; readonly reason?: string },
  ): Promise<void> => {
    const [before, arrivedBefore] = [await dropsOn('us-worker'), await datagramsOf('target')];
    await send(vxlan(vni, frame), sent);
    await eventually(what, async () => {
      const [now, arrived] = [await dropsOn('us-worker'), await datagramsOf('target')];
      const found = {
        arrive: arrived - arrivedBefore,
        ...(fate.reason ? { reason: (now[fate.reason] ?? 0) - (before[fate.reason] ?? 0) } : {}),
      };
      assert.deepEqual(found, { arrive: fate.arrive, ...(fate.reason ? { reason: sent } : {}) });
      return true;
    });
  };
  const fromNode = (packet: Uint8Array, times: number): Promise<unknown> =>
    eu.onNode('eu-worker', shellSend(at['us-worker']!, packet, times));
  // This shows that the others are dropped for what they say, and not because the frames are wrong.
  await expects('an honest packet arrives', identity.far!, fromNode, { arrive: sent });
  await expects('an identity of the receiver’s own cluster', identity.target!, fromNode, {
    arrive: 0,
    reason: 'drop_tunnel_foreign_identity',
  });
  await expects('an identity of a third cluster', (77 << 16) | 1000, fromNode, {
    arrive: 0,
    reason: 'drop_tunnel_foreign_identity',
  });
  await expects('the host of another node', 1, fromNode, {
    arrive: 0,
    reason: 'drop_tunnel_foreign_identity',
  });
  const lie = udp({ from: at.same!, to: at.target!, fromPort: 4000, toPort: 8081 });
  await expects(
    'an address of the receiver’s own cluster',
    identity.far!,
    (_, times) => fromNode(vxlan(identity.far!, lie), times),
    { arrive: 0, reason: 'drop_tunnel_foreign_source' },
  );
  await expects('a sender that is no node', identity.far!, sendFromHere, {
    arrive: 0,
    reason: 'drop_tunnel_from_unknown_node',
  });
});

test('a pod cannot speak as a node through the tunnel, though its packets leave under the node’s address', async () => {
  const frame = udp({ from: at.same!, to: at.target!, fromPort: 4000, toPort: 8081 });
  const sent = 5;
  const [before, arrived] = [await dropsOn('us-worker2'), await datagramsOf('target')];
  const line = shellSend(at['us-worker']!, vxlan(identity.same!, frame), sent);
  await us.sh(ns.name, 'liar', line);
  await eventually('the pod’s packets to the tunnel port are counted', async () => {
    const now = await dropsOn('us-worker2');
    assert.equal((now.drop_tunnel_from_pod ?? 0) - (before.drop_tunnel_from_pod ?? 0), sent);
    return true;
  });
  assert.equal(await datagramsOf('target'), arrived);
});

test('a pod that forges its source address is not heard, and counted', async () => {
  const forged = { 'nobody’s': '10.99.99.99', 'its neighbour’s': at.same!, 'a remote pod’s': at.far! };
  for (const [whose, address] of Object.entries(forged)) {
    await us.sh(ns.name, 'liar', `ip address add ${address}/32 dev eth0`);
    try {
      const [before, arrived] = [await dropsOn('us-worker2'), await datagramsOf('target')];
      const sent = 5;
      const { stdout } = await us.trySh(
        ns.name,
        'liar',
        // nc looks once at what it is given (-w 0): a file is there at once, the other end of a pipe may not be.
        `ping -q -c ${sent} -i 0.2 -W 1 -I ${address} ${at.target}; echo lie > /tmp/lie; for i in $(seq ${sent}); do nc -u -s ${address} -w 0 ${at.target} 8081 < /tmp/lie; done`,
      );
      assert.match(stdout, /100% packet loss/, whose);
      await eventually(`packets with ${whose} address are counted`, async () => {
        const now = await dropsOn('us-worker2');
        const counted = (now.drop_invalid_source ?? 0) - (before.drop_invalid_source ?? 0);
        assert.equal(counted, 2 * sent, whose);
        return true;
      });
      assert.equal(await datagramsOf('target'), arrived, whose);
    } finally {
      await us.sh(ns.name, 'liar', `ip address del ${address}/32 dev eth0`);
    }
  }
  assert.equal(await us.sh(ns.name, 'liar', `curl -s -m 5 http://${at.target}:8080/hostname`), 'target');
});

const hours = [new Date(Date.now() - 3_600_000), new Date(Date.now() + 3_600_000)] as const;

/** RFC 7348, section 5: flags with the I bit, the VNI, and the frame. */
function vxlan(vni: number, frame: Uint8Array): Uint8Array {
  return Buffer.concat([
    Uint8Array.from([8, 0, 0, 0, (vni >> 16) & 0xff, (vni >> 8) & 0xff, vni & 0xff, 0]),
    frame,
  ]);
}

/** A shell line that sends a packet some times to the tunnel port of a node. */
function shellSend(to: string, packet: Uint8Array, times: number): string {
  const text = Buffer.from(packet).toString('base64');
  return `bash -c 'for i in $(seq ${times}); do echo ${text} | base64 -d > /dev/udp/${to}/8472; done'`;
}

async function sendFromHere(packet: Uint8Array, times: number): Promise<void> {
  const socket = createSocket('udp4');
  for (let i = 0; i < times; i++) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.send(packet, 8472, at['us-worker'], error => (error ? reject(error) : resolve()));
    await promise;
  }
  socket.close();
}

/** Packets dropped on a node of us: reason → how many, in all directions. */
async function dropsOn(node: string): Promise<Record<string, number>> {
  const pod = await us.kubectl(
    ...[
      '-n',
      'kube-system',
      'get',
      'pods',
      '-l',
      'k8s-app=isthmus',
      '-o',
      'jsonpath={.items[0].metadata.name}',
    ],
    ...['--field-selector', `spec.nodeName=${node}`],
  );
  const text = await us.kubectl('-n', 'kube-system', 'exec', pod, '--', 'isthmus', 'agent', 'metrics');
  const drops: Record<string, number> = {};
  for (const [, reason, count] of text.matchAll(
    /^isthmus_datapath_packets_total\{reason="(drop_[a-z0-9_]+)",direction="[a-z]+"\} (\d+)$/gm,
  ))
    drops[reason!] = (drops[reason!] ?? 0) + Number(count);
  return drops;
}

/** UDP datagrams a pod has received since it started (RFC 4113, udpInDatagrams and udpNoPorts). */
async function datagramsOf(pod: string): Promise<number> {
  const lines = (await us.sh(ns.name, pod, 'grep ^Udp: /proc/net/snmp')).trim().split('\n');
  const [names, values] = lines.map(line => line.split(' '));
  const value = (name: string): number => Number(values![names!.indexOf(name)]);
  return value('InDatagrams') + value('NoPorts');
}

/** The pod may give itself addresses. */
function withNetAdmin(manifest: string): string {
  const capabilities = { add: ['NET_ADMIN'] };
  return manifest.replace('"image":', `"securityContext":${JSON.stringify({ capabilities })},"image":`);
}
