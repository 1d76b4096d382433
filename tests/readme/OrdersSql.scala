package io.cosmosflink.readme

import org.apache.flink.table.api.{TableEnvironment, TableResult}

/** The statements of docs/sql.md in Scala: what stands there is what lies between the two marks, which `cargo xtask test` compares and runs. */
object OrdersSql:
  // readme:begin
  /** A container of orders as a table. */
  def orders(tables: TableEnvironment, account: String, container: String, options: (String, String)*): Unit =
    val all = Seq("connector" -> "cosmosdb", "endpoint" -> account, "container" -> container) ++ options
    tables.executeSql(s"""
      CREATE TABLE `$container` (
        id STRING NOT NULL,
        customerId STRING NOT NULL,
        status STRING,
        amount DECIMAL(20, 2),
        PRIMARY KEY (id, customerId) NOT ENFORCED
      ) WITH (${all.map((name, value) => s"'$name' = '$value'").mkString(", ")})""")

  def define(tables: TableEnvironment, account: String, options: (String, String)*): TableResult =
    orders(tables, account, "orders", options*)
    orders(tables, account, "open-orders", options*)
    tables.executeSql("INSERT INTO `open-orders` SELECT * FROM orders WHERE status = 'open'")
  // readme:end
