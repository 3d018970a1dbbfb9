import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withClusterset } from './corefile.ts';

const domains = { cluster: 'cluster.local', clusterset: 'clusterset.local' };
const changed = (corefile: string): string => withClusterset(corefile, domains);

/** As kubeadm and kind write it. */
const kubeadm = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
}
`;

test('the Corefile of kubeadm', () => {
  const expected = kubeadm
    .replace('kubernetes cluster.local in-addr', 'kubernetes cluster.local clusterset.local in-addr')
    .replace('       ttl 30\n', '       ttl 30\n       multicluster clusterset.local\n');
  assert.equal(changed(kubeadm), expected);
  assert.equal(changed(expected), expected, 'once');
});

test('a server of named zones gets the zone as well, on its port', () => {
  const lab =
    'cluster.local:53 in-addr.arpa:53 {\n    kubernetes cluster.local in-addr.arpa {\n       ttl 30\n    }\n}\n.:53 {\n    errors\n}\n';
  assert.equal(
    changed(lab),
    'cluster.local:53 clusterset.local:53 in-addr.arpa:53 {\n    kubernetes cluster.local clusterset.local in-addr.arpa {\n       ttl 30\n       multicluster clusterset.local\n    }\n}\n.:53 {\n    errors\n}\n',
  );
  assert.equal(
    changed('cluster.local {\n  kubernetes cluster.local {\n  }\n}\n'),
    'cluster.local clusterset.local {\n  kubernetes cluster.local clusterset.local {\n     multicluster clusterset.local\n  }\n}\n',
  );
});

test('a plugin without options', () => {
  assert.equal(
    changed('.:53 {\n  kubernetes cluster.local\n}\n'),
    '.:53 {\n  kubernetes cluster.local clusterset.local {\n     multicluster clusterset.local\n  }\n}\n',
  );
});

test('a zone that somebody added, without the option; comments are no plugins', () => {
  assert.equal(
    changed(
      '.:53 {\n  # kubernetes cluster.local\n  kubernetes clusterset.local cluster.local { # ours\n  }\n}\n',
    ),
    '.:53 {\n  # kubernetes cluster.local\n  kubernetes clusterset.local cluster.local { # ours\n     multicluster clusterset.local\n  }\n}\n',
  );
});

test('another domain is another plugin’s: it is said', () => {
  assert.throws(() => withClusterset(kubeadm, { ...domains, cluster: 'example.org' }), {
    message: /found no plugin "kubernetes … example.org …" in the Corefile/,
  });
});
