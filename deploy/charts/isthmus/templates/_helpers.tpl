{{- define "isthmus.image" -}}
{{- with .Values.image -}}
{{- if .override -}}
{{ .override }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "isthmus.labels" -}}
app.kubernetes.io/part-of: isthmus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Host and port of the API server, as {"host", "port"}: the values, or for `auto` what kube-public/cluster-info says. */}}
{{- define "isthmus.apiServer" -}}
{{- $host := .Values.k8sServiceHost | toString -}}
{{- $port := .Values.k8sServicePort | toString -}}
{{- if eq $host "auto" -}}
  {{- $info := lookup "v1" "ConfigMap" "kube-public" "cluster-info" -}}
  {{- $server := "" -}}
  {{- if $info -}}
    {{- $server = (index ($info.data.kubeconfig | fromYaml).clusters 0).cluster.server -}}
  {{- end -}}
  {{- if not $server -}}
    {{- fail "k8sServiceHost: auto needs the ConfigMap kube-public/cluster-info, which cannot be read here (helm template asks the cluster with --dry-run=server): set k8sServiceHost and k8sServicePort to an address of the API server that nodes reach without a service, or use `isthmus install`" -}}
  {{- end -}}
  {{- $url := urlParse $server -}}
  {{- $host = regexReplaceAll ":[0-9]+$" $url.host "" | trimPrefix "[" | trimSuffix "]" -}}
  {{- if eq $port "auto" -}}
    {{- $port = regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default "443" -}}
  {{- end -}}
{{- else if eq $port "auto" -}}
  {{- $port = "6443" -}}
{{- end -}}
{{- dict "host" $host "port" $port | toJson -}}
{{- end }}

{{/*
How Node is started, as elements of a command. The space for young objects may grow to three times 4 MiB instead of
16: bulk work takes no longer with it, and what the space grew to stays in a daemon's memory for hours. The space for
old ones may grow by half of what is alive until it is collected, not to four times that: with little alive a
collection is short.
*/}}
{{- define "isthmus.node" -}}
/usr/bin/node, --max-semi-space-size=4, --initial-heap-size=40, --heap-growing-percent=50
{{- end }}

{{/*
The environment every daemon needs to find itself and the API server. Few of its threads allocate, and share two heaps
of the C library.
*/}}
{{- define "isthmus.env" -}}
{{- $api := include "isthmus.apiServer" . | fromJson -}}
- name: MALLOC_ARENA_MAX
  value: "2"
- name: KUBERNETES_SERVICE_HOST
  value: {{ $api.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $api.port | quote }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: K8S_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{/* The certificates and remote clusters' configurations, in one folder named as Cilium's. */}}
{{- define "isthmus.clustermeshVolume" -}}
- name: clustermesh-secrets
  projected:
    # Not 0444: the keys are in it.
    defaultMode: 0400
    sources:
      # With the mirror the way to the copies in the own etcd, without it the way to each cluster. Agents follow it, so
      # the volume is the same with and without.
      - secret:
          name: cilium-clustermesh
          optional: true
      {{- include "isthmus.remoteCertificates" . | nindent 6 }}
      - secret:
          name: clustermesh-apiserver-local-cert
          optional: true
          items:
            - key: tls.key
              path: local-etcd-client.key
            - key: tls.crt
              path: local-etcd-client.crt
            - key: ca.crt
              path: local-etcd-client-ca.crt
{{- end }}

{{/* What of the certificates in that folder leads to other clusters. */}}
{{- define "isthmus.remoteCertificates" -}}
- secret:
    name: clustermesh-apiserver-remote-cert
    optional: true
    items:
      - key: tls.key
        path: common-etcd-client.key
      - key: tls.crt
        path: common-etcd-client.crt
      - key: ca.crt
        path: common-etcd-client-ca.crt
- configMap:
    name: cilium-root-ca.crt
    optional: true
    items:
      - key: ca.crt
        path: common-ca-bundle.crt
{{- end }}

{{/* "true" where clustermesh-apiserver has a mirror beside it, as in Cilium. */}}
{{- define "isthmus.mirror" -}}
{{- and .Values.clustermesh.useAPIServer .Values.clustermesh.apiserver.kvstoremesh.enabled -}}
{{- end }}

{{/* What the schema cannot say: values that are wrong only together. */}}
{{- define "isthmus.validate" -}}
{{- $id := int .Values.cluster.id -}}
{{- $max := int .Values.clustermesh.maxConnectedClusters -}}
{{- if gt $id $max -}}
  {{- fail (printf "cluster.id: found %d, expected 0 to %d (clustermesh.maxConnectedClusters)" $id $max) -}}
{{- end -}}
{{- if and (ne $id 0) (eq .Values.cluster.name "default") -}}
  {{- fail "cluster.name: found default, expected a name of its own, because cluster.id is not 0" -}}
{{- end -}}
{{- if and (eq $id 0) (or .Values.clustermesh.useAPIServer .Values.clustermesh.config.enabled .Values.clustermesh.mcsapi.enabled) -}}
  {{- fail (printf "cluster.id: found 0, expected 1 to %d, because clustermesh is on" $max) -}}
{{- end -}}
{{- range include "isthmus.remoteClusters" . | fromJsonArray -}}
  {{- if and (not .ips) (not .address) -}}
    {{- fail (printf "clustermesh.config.clusters: %s has neither ips nor address" .name) -}}
  {{- end -}}
  {{- $tls := .tls | default dict -}}
  {{- if ne (empty $tls.cert) (empty $tls.key) -}}
    {{- fail (printf "clustermesh.config.clusters: tls of %s needs cert and key together" .name) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.clustermesh.mcsapi.corednsAutoConfigure.enabled (not .Values.clustermesh.mcsapi.enabled) -}}
  {{- fail "clustermesh.mcsapi.corednsAutoConfigure.enabled: found true, expected false, because clustermesh.mcsapi.enabled is false" -}}
{{- end -}}
{{- if ne (empty .Values.tls.ca.cert) (empty .Values.tls.ca.key) -}}
  {{- fail "tls.ca: found only one of cert and key, expected both or none" -}}
{{- end -}}
{{- with .Values.clustermesh.apiserver -}}
  {{- if and .kvstoremesh.enabled (eq (int .kvstoremesh.healthPort) (int .healthPort)) -}}
    {{- fail (printf "clustermesh.apiserver.kvstoremesh.healthPort: found %d, expected another port than clustermesh.apiserver.healthPort: they are in one pod" (int .healthPort)) -}}
  {{- end -}}
{{- end -}}
{{- $range := splitList "," .Values.nodePort.range -}}
{{- if gt (index $range 0 | int) (index $range 1 | int) -}}
  {{- fail (printf "nodePort.range: found %s, expected the lower port first" .Values.nodePort.range) -}}
{{- end -}}
{{- if not (or .Values.ipv4.enabled .Values.ipv6.enabled) -}}
  {{- fail "ipv4.enabled: found false, expected true, because ipv6.enabled is false, too" -}}
{{- end -}}
{{- if ne .Values.loadBalancer.dsrDispatch "opt" -}}
  {{- fail (printf "loadBalancer.dsrDispatch: found %s, expected opt: services' addresses travel in an option of the IP header only" .Values.loadBalancer.dsrDispatch) -}}
{{- end -}}
{{- if and (ne .Values.loadBalancer.mode "snat") (eq .Values.routingMode "tunnel") -}}
  {{- fail (printf "loadBalancer.mode: found %s, expected snat, because routingMode is tunnel: the option that names the service does not travel in the tunnel. routingMode native or hybrid can do it" .Values.loadBalancer.mode) -}}
{{- end -}}
{{- end }}

{{/*
The remote clusters of clustermesh.config.clusters, as a JSON array: a list of them, or a map by name, without those
that are off and without this cluster, so that all clusters of a mesh can have the same values.
*/}}
{{- define "isthmus.remoteClusters" -}}
{{- $all := .Values.clustermesh.config.clusters | default list -}}
{{- $named := list -}}
{{- if kindIs "map" $all -}}
  {{- range $name, $cluster := $all -}}
    {{- $named = append $named (merge (dict "name" $name) ($cluster | default dict)) -}}
  {{- end -}}
{{- else -}}
  {{- $named = $all -}}
{{- end -}}
{{- $own := .Values.cluster.name -}}
{{- $names := list -}}
{{- $remote := list -}}
{{- range $named -}}
  {{- if has .name $names -}}
    {{- fail (printf "clustermesh.config.clusters: %s is there twice" .name) -}}
  {{- end -}}
  {{- $names = append $names .name -}}
  {{- if and (ne .name $own) (ne (toString .enabled) "false") -}}
    {{- $remote = append $remote . -}}
  {{- end -}}
{{- end -}}
{{- toJson $remote -}}
{{- end }}

{{/* etcd client configuration for one remote cluster. Its addresses are in it, so that a new one restarts no pod. */}}
{{- define "isthmus.remoteCluster" -}}
{{- $folder := "/var/lib/cilium/clustermesh" -}}
{{- $tls := .cluster.tls | default dict -}}
{{- $ca := .caBundle | ternary "common-ca-bundle.crt" "common-etcd-client-ca.crt" -}}
{{- if $tls.caCert -}}
{{- $ca = print .cluster.name ".etcd-client-ca.crt" -}}
{{- end -}}
{{- $port := .cluster.port | default 2379 | int -}}
{{- $host := .cluster.address -}}
{{- if .cluster.ips -}}
{{- $host = printf "%s.%s" .cluster.name .domain -}}
{{- end -}}
endpoints:
- https://{{ $host }}:{{ $port }}
{{- if .cluster.ips }}
cilium-host-aliases:
- hostname: {{ $host }}
  ips:
  {{- range .cluster.ips }}
  - {{ . | quote }}
  {{- end }}
{{- end }}
trusted-ca-file: {{ $folder }}/{{ $ca }}
cert-file: {{ $folder }}/{{ $tls.cert | empty | ternary "common-" (print .cluster.name ".") }}etcd-client.crt
key-file: {{ $folder }}/{{ $tls.key | empty | ternary "common-" (print .cluster.name ".") }}etcd-client.key
{{ end }}

{{/* The same for the copy that the mirror keeps in this cluster's own etcd. */}}
{{- define "isthmus.localCopy" -}}
{{- $folder := "/var/lib/cilium/clustermesh" -}}
endpoints:
- https://clustermesh-apiserver.{{ .Release.Namespace }}.svc:2379
trusted-ca-file: {{ $folder }}/local-etcd-client-ca.crt
cert-file: {{ $folder }}/local-etcd-client.crt
key-file: {{ $folder }}/local-etcd-client.key
{{ end }}

{{/* Secrets with the way to each remote cluster itself: those who read it go there. */}}
{{- define "isthmus.remoteClusterFiles" -}}
{{- range include "isthmus.remoteClusters" . | fromJsonArray }}
{{ .name }}: {{ include "isthmus.remoteCluster" (dict "cluster" . "domain" $.Values.clustermesh.config.domain "caBundle" $.Values.tls.caBundle.enabled) | b64enc }}
{{- $name := .name }}
{{- with .tls }}
{{- if .caCert }}
{{ $name }}.etcd-client-ca.crt: {{ .caCert | nospace }}
{{- end }}
{{- if and .cert .key }}
{{ $name }}.etcd-client.crt: {{ .cert | nospace }}
{{ $name }}.etcd-client.key: {{ .key | nospace }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Configuration that the agents read: they restart when it changes, and only then. Keys are named as in cilium-config. */}}
{{- define "isthmus.agentConfig" -}}
cluster-name: {{ .Values.cluster.name | quote }}
cluster-id: {{ .Values.cluster.id | quote }}
max-connected-clusters: {{ .Values.clustermesh.maxConnectedClusters | quote }}
clustermesh-config: /var/lib/cilium/clustermesh/
clustermesh-heartbeat-timeout: {{ .Values.clustermesh.heartbeatTimeout | quote }}
labels: {{ .Values.labels | quote }}
ipam: {{ .Values.ipam.mode | quote }}
routing-mode: {{ .Values.routingMode | quote }}
auto-direct-node-routes: {{ .Values.autoDirectNodeRoutes | quote }}
subnet-topology: {{ .Values.subnetTopology | quote }}
ipv4-native-routing-cidr: {{ .Values.ipv4NativeRoutingCIDR | quote }}
non-masquerade-cidrs: {{ join "," .Values.nonMasqueradeCIDRs | quote }}
tunnel-protocol: {{ .Values.tunnelProtocol | quote }}
tunnel-port: {{ .Values.tunnelPort | default 8472 | quote }}
tunnel-unpack: {{ .Values.tunnelUnpack | quote }}
enable-ipv4: {{ .Values.ipv4.enabled | quote }}
enable-ipv6: {{ .Values.ipv6.enabled | quote }}
enable-ipv4-masquerade: {{ .Values.enableIPv4Masquerade | quote }}
enable-ipv6-masquerade: {{ .Values.enableIPv6Masquerade | quote }}
kube-proxy-replacement: {{ .Values.kubeProxyReplacement | quote }}
{{- with .Values.kubeProxyReplacementHealthzBindAddr }}
kube-proxy-replacement-healthz-bind-address: {{ . | quote }}
{{- end }}
bpf-lb-sock-hostns-only: {{ .Values.socketLB.hostNamespaceOnly | quote }}
bpf-lb-algorithm: {{ .Values.loadBalancer.algorithm | quote }}
bpf-lb-mode: {{ .Values.loadBalancer.mode | quote }}
bpf-lb-dsr-dispatch: {{ .Values.loadBalancer.dsrDispatch | quote }}
bpf-lb-maglev-table-size: {{ .Values.maglev.tableSize | int64 | quote }}
bpf-lb-maglev-hash-seed: {{ .Values.maglev.hashSeed | quote }}
node-port-bind-protection: {{ .Values.nodePort.bindProtection | quote }}
node-port-range: {{ .Values.nodePort.range | quote }}
devices: {{ join " " .Values.devices | quote }}
mtu: {{ .Values.MTU | quote }}
enable-tcx: {{ .Values.bpf.enableTCX | quote }}
bpf-root: {{ .Values.bpf.root | quote }}
{{- with .Values.bpf }}
{{- if .ctTcpMax }}
bpf-ct-global-tcp-max: {{ .ctTcpMax | int64 | quote }}
{{- end }}
{{- if .ctAnyMax }}
bpf-ct-global-any-max: {{ .ctAnyMax | int64 | quote }}
{{- end }}
{{- if .natMax }}
bpf-nat-global-max: {{ .natMax | int64 | quote }}
{{- end }}
{{- if .lbMapMax }}
bpf-lb-map-max: {{ .lbMapMax | int64 | quote }}
{{- end }}
{{- if .policyMapMax }}
bpf-policy-map-max: {{ .policyMapMax | int64 | quote }}
{{- end }}
{{- end }}
enable-health-checking: {{ .Values.healthChecking | quote }}
health-check-interval: {{ .Values.healthCheckInterval | quote }}
health-check-icmp-failure-threshold: {{ .Values.healthCheckICMPFailureThreshold | int64 | quote }}
health-check-hold: {{ .Values.healthCheckHold | quote }}
enable-l2-announcements: {{ .Values.l2announcements.enabled | quote }}
{{- with .Values.l2announcements }}
{{- if .leaseDuration }}
l2-announcements-lease-duration: {{ .leaseDuration | quote }}
{{- end }}
{{- if .leaseRenewDeadline }}
l2-announcements-renew-deadline: {{ .leaseRenewDeadline | quote }}
{{- end }}
{{- if .leaseRetryPeriod }}
l2-announcements-retry-period: {{ .leaseRetryPeriod | quote }}
{{- end }}
{{- end }}
cgroup-root: /host/sys/fs/cgroup
cni-exclusive: {{ .Values.cni.exclusive | quote }}
agent-not-ready-taint-key: {{ .Values.agentNotReadyTaintKey | quote }}
agent-health-port: {{ .Values.healthPort | quote }}
prometheus-serve-addr: {{ .Values.prometheus.enabled | ternary (printf ":%v" .Values.prometheus.port) "" | quote }}
debug: {{ .Values.debug.enabled | quote }}
{{- end }}
