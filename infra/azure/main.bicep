// What the pipeline needs of Azure: an account, a database, its containers, and the right to use the data for some identities.
//   az deployment group create -g GROUP -f main.bicep -p accountName=NAME dataContributors='["OBJECT-ID"]'

@description('Name of the account, unique in all of Azure.')
@minLength(3)
@maxLength(44)
param accountName string

@description('Region.')
param location string = resourceGroup().location

@description('Name of the database.')
param databaseName string = 'cosmosflink'

@description('Most request units per second of each container, scaled by the service; 0 makes a serverless account.')
@minValue(0)
param autoscaleMaxThroughput int = 0

@description('Object ids of the users, service principals and managed identities that may read and write the data.')
param dataContributors array = []

@description('Whether account keys work. Off: Entra ID alone.')
param allowKeys bool = false

@description('IPv4 addresses and ranges that reach the account; empty: any.')
param allowedIpRanges array = []

var serverless = autoscaleMaxThroughput == 0

// The containers of the pipeline and their partition key paths; the names are the defaults of the jobs.
var containers = [
  { name: 'events-source', path: '/customerId' }
  { name: 'events-processed', path: '/region' }
  { name: 'events-output', path: '/region' }
  { name: 'dead-letter', path: '/container' }
  { name: 'cosmos-leases', path: '/id' }
]

// Built-in data-plane role: read and write documents and the change feed, read metadata; no keys, no creation of containers.
var dataContributor = '00000000-0000-0000-0000-000000000002'

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-05-15' = {
  // checkov:skip=CKV_AZURE_140: keys are off unless allowKeys asks for them; the checker does not see through the parameter
  // checkov:skip=CKV_AZURE_99: allowedIpRanges restricts access; where the cluster runs is not known here
  // checkov:skip=CKV_AZURE_101: a private endpoint needs the network of the cluster, which is not known here
  name: accountName
  location: location
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    locations: [
      {
        locationName: location
        failoverPriority: 0
        isZoneRedundant: false
      }
    ]
    consistencyPolicy: {
      defaultConsistencyLevel: 'Session'
    }
    capabilities: serverless ? [{ name: 'EnableServerless' }] : []
    disableLocalAuth: !allowKeys
    disableKeyBasedMetadataWriteAccess: true
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: 'Enabled'
    ipRules: [for range in allowedIpRanges: { ipAddressOrRange: range }]
    backupPolicy: {
      type: 'Continuous'
      continuousModeProperties: {
        tier: 'Continuous7Days'
      }
    }
  }
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2024-05-15' = {
  parent: account
  name: databaseName
  properties: {
    resource: {
      id: databaseName
    }
  }
}

resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2024-05-15' = [
  for item in containers: {
    parent: database
    name: item.name
    properties: {
      resource: {
        id: item.name
        partitionKey: {
          paths: [item.path]
          kind: 'Hash'
          version: 2
        }
        // Written and read by id and by change feed: an index over every field would only cost request units. A query by
        // anything else scans.
        indexingPolicy: {
          indexingMode: 'consistent'
          includedPaths: [{ path: '${item.path}/?' }]
          excludedPaths: [{ path: '/*' }]
        }
      }
      options: serverless ? {} : { autoscaleSettings: { maxThroughput: autoscaleMaxThroughput } }
    }
  }
]

// On the account, which is the pipeline's alone: clients begin by reading the account's own metadata.
resource assignment 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2024-05-15' = [
  for principal in dataContributors: {
    parent: account
    name: guid(account.id, principal, dataContributor)
    properties: {
      roleDefinitionId: '${account.id}/sqlRoleDefinitions/${dataContributor}'
      principalId: principal
      scope: account.id
    }
  }
]

@description('For COSMOS_URI.')
output endpoint string = account.properties.documentEndpoint

@description('For COSMOS_DB.')
output database string = database.name
