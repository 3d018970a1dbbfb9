import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CniError, parseRequest } from './cni-request.ts';

const frame = (command: string, config: object): Buffer =>
  Buffer.from(
    `CNI_COMMAND=${command}\0CNI_CONTAINERID=c1\0CNI_IFNAME=eth0\0CNI_ARGS=K8S_POD_NAME=web;K8S_POD_UID=u=1\0\0` +
      JSON.stringify({ cniVersion: '1.0.0', name: 'isthmus', type: 'isthmus-cni', ...config }),
  );

describe('a request of the plugin', () => {
  it('has port mappings as containerd writes them, and as the convention does', () => {
    const portMappings = [
      { HostPort: 18080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' },
      { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '10.0.0.1' },
      { hostPort: 0, containerPort: 81, protocol: 'tcp' },
    ];
    assert.deepEqual(parseRequest(frame('ADD', { runtimeConfig: { portMappings } })).portMappings, [
      { hostPort: 18080, containerPort: 80, protocol: 'tcp', hostIP: '' },
      { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '10.0.0.1' },
    ]);
    for (const runtimeConfig of [{}, { portMappings: null }, undefined])
      assert.deepEqual(parseRequest(frame('ADD', { runtimeConfig })).portMappings, []);
  });

  it('says which field of a port mapping is wrong; a DEL does not mind', () => {
    const wrong = {
      runtimeConfig: { portMappings: [{ hostPort: 'x', containerPort: 80, protocol: 'tcp' }] },
    };
    assert.throws(
      () => parseRequest(frame('ADD', wrong)),
      (error: unknown) =>
        error instanceof CniError &&
        error.code === 7 &&
        error.details.includes('runtimeConfig.portMappings[0].hostPort'),
    );
    const senseless = { ...wrong, prevResult: 'x', 'cni.dev/valid-attachments': 3 };
    assert.equal(parseRequest(frame('DEL', senseless)).containerId, 'c1');
  });

  it('has the pod’s names from CNI_ARGS', () => {
    const request = parseRequest(frame('ADD', {}));
    assert.deepEqual([request.namespace, request.podName, request.podUid], ['', 'web', 'u=1']);
  });
});
