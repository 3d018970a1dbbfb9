import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AgentTemplate, cleanPod } from './clean-pod.ts';

const template: AgentTemplate = {
  imagePullSecrets: [{ name: 'registry' }],
  priorityClassName: 'system-node-critical',
  containers: [
    {
      name: 'agent',
      image: 'quay.io/isthmus/isthmus:0.1.0',
      imagePullPolicy: 'IfNotPresent',
      securityContext: { privileged: true },
      volumeMounts: [
        { name: 'config', mountPath: '/etc/isthmus/config' },
        { name: 'bpffs', mountPath: '/bpf', mountPropagation: 'Bidirectional' },
        { name: 'cni-bin', mountPath: '/opt/cni/bin' },
      ],
    },
  ],
  volumes: [
    { name: 'config', configMap: { name: 'isthmus-config' } },
    { name: 'bpffs', hostPath: { path: '/bpf' } },
    { name: 'cni-bin', hostPath: { path: '/var/lib/cni/bin' } },
  ],
};

test('the pod that cleans a node has the folders of its agent, and needs nothing that an uninstall removes', () => {
  assert.deepEqual(cleanPod(template, 'us-worker', 'kube-system'), {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'isthmus-clean-us-worker',
      namespace: 'kube-system',
      labels: { 'app.kubernetes.io/name': 'isthmus-clean-node', 'app.kubernetes.io/part-of': 'isthmus' },
    },
    spec: {
      nodeName: 'us-worker',
      hostNetwork: true,
      dnsPolicy: 'Default',
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 0,
      tolerations: [{ operator: 'Exists' }],
      imagePullSecrets: [{ name: 'registry' }],
      priorityClassName: 'system-node-critical',
      containers: [
        {
          name: 'clean',
          image: 'quay.io/isthmus/isthmus:0.1.0',
          imagePullPolicy: 'IfNotPresent',
          command: ['isthmus', 'agent', 'cleanup', '--without-agent', '--bpf-root', '/bpf'],
          securityContext: { privileged: true },
          terminationMessagePolicy: 'FallbackToLogsOnError',
          volumeMounts: template.containers[0]!.volumeMounts.slice(1),
        },
      ],
      volumes: template.volumes.slice(1),
    },
  });
});
