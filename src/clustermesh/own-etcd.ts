import type { TlsFiles } from '../kvstore/connection.ts';
import type { Endpoint } from '../kvstore/endpoint.ts';

/** The etcd in the pod of clustermesh-apiserver, and the certificates that the chart mounts beside it. */
export const ownEtcd: Endpoint = { host: '127.0.0.1', port: 2379, serverName: undefined };
export const adminTls = tlsFiles('/etc/isthmus/admin-cert');
export const serverTls = tlsFiles('/etc/isthmus/server-cert');

/** The files of a mounted TLS secret. */
function tlsFiles(folder: string): TlsFiles {
  return { ca: `${folder}/ca.crt`, cert: `${folder}/tls.crt`, key: `${folder}/tls.key` };
}
